"""The files of a run that are published beside the model."""

import pickle
import platform
import shutil
import zipfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml
from rl_zoo3.utils import EnvironmentName

from sb3_mdpo.hub import repository
from sb3_mdpo.hub.normalization import statistics_to_json
from sb3_mdpo.hub.redaction import plain
from sb3_mdpo.hub.settings import KEYS
from sb3_mdpo.zoo.run import ARGS, CONFIG, Run

PACKAGES = ("sb3-mdpo", "stable-baselines3", "rl-zoo3", "torch", "gymnasium", "numpy", "procgen", "procgen-mirror")


def copy_run(run: Run, folder: Path, with_pickles: bool = False) -> None:
    """
    Copy what ``rl_zoo3 enjoy`` needs beside the model: settings as plain YAML, statistics as JSON.

    :param run: the run
    :param folder: folder to copy to
    :param with_pickles: whether to copy what ``rl_zoo3.load_from_hub`` downloads as well, pickles among it
    """
    args = {key: run.args[key] for key in KEYS[ARGS]} | {"env_kwargs": run.env_kwargs}
    config = {key: run.hyperparams[key] for key in KEYS[CONFIG] if run.hyperparams.get(key)}
    config["normalize"] = bool(run.hyperparams["normalize"])  # how to is in the statistics
    documents = {ARGS: args, CONFIG: config}
    if config["normalize"]:
        statistics = (run.settings / repository.VECNORMALIZE).read_bytes()
        # The run was trained on this machine
        (folder / repository.NORMALIZATION).write_text(statistics_to_json(pickle.loads(statistics)))
    if with_pickles:
        if config["normalize"]:
            (folder / repository.PICKLED_STATISTICS).write_bytes(statistics)
        shutil.copy(run.model_path, folder / f"mdpo-{EnvironmentName(run.env_id)}.zip")
        documents[repository.ENV_KWARGS] = run.env_kwargs
        with zipfile.ZipFile(folder / repository.METRICS, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted([*run.folder.glob("*monitor.csv"), *run.folder.glob("evaluations.npz")]):
                archive.write(path, path.name)
    for name, document in documents.items():
        (folder / name).write_text(yaml.safe_dump(plain(document)))


def versions() -> dict[str, str]:
    """
    :return: the versions of Python and of the packages that the model's behavior depends on
    """
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # Procgen has one of two names, or is not installed
            found[package] = version(package)
    return found
