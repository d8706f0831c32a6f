"""The files of a shared run."""

import pickle
import platform
import shutil
import zipfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml
from rl_zoo3.utils import EnvironmentName, ModelName

from sb3_mdpo.hub import layout
from sb3_mdpo.hub.normalization import statistics_to_json
from sb3_mdpo.hub.plain_yaml import read_mapping
from sb3_mdpo.hub.redaction import plain, plain_command
from sb3_mdpo.hub.settings import check_args, check_hyperparams, checked_env_id
from sb3_mdpo.zoo.run import Run

PACKAGES = (
    "sb3-mdpo",
    "stable-baselines3",
    "rl-zoo3",
    "torch",
    "gymnasium",
    "numpy",
    "procgen",
    "procgen-mirror",
)


def model_name(run: Run) -> str:
    """
    :param run: the run
    :return: the zoo's name of its model on the Hub
    """
    return str(ModelName("mdpo", EnvironmentName(run.env_id)).filename)


def copy_run(run: Run, folder: Path, with_pickles: bool = False) -> None:
    """
    Copy what is published of a run beside the model. Settings become plain YAML, without folders of this machine;
    statistics become JSON; the episodes are copied as they are.

    :param run: the run
    :param folder: where to
    :param with_pickles: whether to copy model and statistics as they are, too
    """
    if run.hyperparams["normalize"]:
        statistics = (run.settings / layout.LOCAL_STATISTICS).read_bytes()
        (folder / layout.NORMALIZATION).write_text(statistics_to_json(pickle.loads(statistics)))  # of this machine
        if with_pickles:
            (folder / layout.STATISTICS).write_bytes(statistics)
    if with_pickles:
        shutil.copy(run.model_path, folder / model_name(run))
    config = {key: value for key, value in run.hyperparams.items() if key != "normalize_kwargs"}
    if isinstance(config["normalize"], str):
        config["normalize"] = run.hyperparams["normalize_kwargs"]  # the zoo would evaluate a text as Python
    documents = {layout.CONFIG: config, layout.ARGS: run.args, layout.ENV_KWARGS: run.env_kwargs}
    for name, document in documents.items():
        (folder / name).write_text(yaml.safe_dump(plain(document)))
    (folder / layout.COMMAND).write_text(plain_command(run.command) + "\n")
    with zipfile.ZipFile(folder / layout.METRICS, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted([*run.folder.glob("*monitor.csv"), *run.folder.glob(layout.EVALUATIONS)]):
            archive.write(path, path.name)


def why_refused(folder: Path) -> str | None:
    """
    :param folder: what is going to be published
    :return: why ``sb3-mdpo pull`` will refuse its settings without ``--trust``, None where it will not
    """
    try:
        args = read_mapping(folder / layout.ARGS)
        checked_env_id(args["env"])
        check_args(args)
        check_hyperparams(read_mapping(folder / layout.CONFIG))
    except ValueError as error:
        return str(error)
    return None


def versions() -> dict[str, str]:
    """
    :return: package -> version, of those that decide how a model behaves, Python among them
    """
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # Procgen has one of two names, and is not always there
            found[package] = version(package)
    return found
