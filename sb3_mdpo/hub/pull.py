"""``sb3-mdpo pull``: a shared run as a run folder of the zoo.

What comes from the Hub is somebody else's: nothing is unpickled, YAML is read as plain data and
written anew, and no name of a file or folder is used before it has been checked.
"""

import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from huggingface_hub import HfApi, snapshot_download

from sb3_mdpo.documents import read_yaml
from sb3_mdpo.hub import layout
from sb3_mdpo.hub.connection import connection_errors

MODEL_NAME = re.compile(r"mdpo-([A-Za-z0-9][A-Za-z0-9._-]*)\.zip")
ENV_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
METRICS_NAME = re.compile(r"evaluations\.npz|([A-Za-z0-9_-]+\.)?monitor\.csv")
METRICS_LIMIT = 2**30  # bytes, unpacked
ENCRYPTED = 1  # bit of the flags of a file in a zip archive
OPTIONAL = (layout.STATISTICS, layout.COMMAND, layout.ENV_KWARGS, layout.METRICS)


@dataclass(frozen=True)
class PulledRun:
    """
    :param folder: the run's folder
    :param env_id: id of its environment
    :param exp_id: its number
    """

    folder: Path
    env_id: str
    exp_id: int


def pull_run(
    repo_id: str, folder: Path = Path("logs"), *, exp_id: int = 0, force: bool = False, revision: str | None = None
) -> PulledRun:
    """
    Download a run that was shared with ``sb3-mdpo push``, ready for ``rl_zoo3 enjoy``. The run's folder
    appears when it is complete. Nothing in it is loaded.

    :param repo_id: repository on the Hub
    :param folder: log folder of the zoo
    :param exp_id: number of the run, 0 for the one after the latest
    :param force: whether to replace the run of that number
    :param revision: branch, tag or commit, by default the latest commit of the main branch
    :return: where it is
    :raises ValueError: where the repository holds no such run or one that is not safe to unpack
    :raises OSError: where the Hub refuses or cannot be reached
    :raises FileExistsError: where there is a run of that number and it is not to be replaced
    """
    if exp_id < 0:
        raise ValueError(f"--exp-id {exp_id} must not be negative: leave it out for a new run.")
    if force and exp_id == 0:
        raise ValueError("--force replaces the run that --exp-id names: say which, or leave it out for a new run.")
    with connection_errors():
        env_name, snapshot = _download(repo_id, revision)
    env_id, files = read_snapshot(snapshot, env_name)
    from rl_zoo3.utils import get_latest_run_id  # seconds, with torch: only for what is worth them

    logs = Path(folder) / "mdpo"
    number = exp_id or get_latest_run_id(str(logs), env_name) + 1
    target = logs / f"{env_name}_{number}"
    if target.exists() and not force:
        raise FileExistsError(f"{target} exists: use --force to replace it, or leave out --exp-id for a new run.")
    logs.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=logs, prefix=".pull-") as name:
        run = Path(name) / "run"
        for path, content in files.items():
            _write(run / path, content)
        _move(run, target, Path(name) / "replaced")
    return PulledRun(target, env_id, number)


def _download(repo_id: str, revision: str | None) -> tuple[str, Path]:
    info = HfApi().model_info(repo_id, revision=revision)
    names = [sibling.rfilename for sibling in info.siblings or []]
    models = [match for match in map(MODEL_NAME.fullmatch, names) if match]
    if len(models) != 1:
        raise ValueError(
            f"{repo_id} holds {len(models)} models named mdpo-<environment>.zip, not one: "
            "give a repository that was made by sb3-mdpo push."
        )
    wanted = [models[0][0], layout.CONFIG, layout.ARGS, *OPTIONAL]
    snapshot = snapshot_download(repo_id, revision=info.sha, allow_patterns=wanted)
    return models[0][1], Path(snapshot)


def read_snapshot(snapshot: Path, env_name: str) -> tuple[str, dict[str, bytes]]:
    """
    Check a downloaded repository and lay its files out as the zoo does.

    :param snapshot: folder of the downloaded files
    :param env_name: the environment's name, as in the name of the model
    :return: the environment's id, and the run folder's files by their path in it
    :raises ValueError: where something is missing or not what it should be
    """
    args = _read_mapping(snapshot / layout.ARGS)
    env_id = args.get("env")
    if not (isinstance(env_id, str) and ENV_ID.fullmatch(env_id) and _folder_name(env_id) == env_name):
        raise ValueError(f"{layout.ARGS} is of environment {env_id!r}, the model of {env_name}: the run is not sound.")
    if not isinstance(args.setdefault("env_kwargs", None), dict | None):
        raise ValueError(f"{layout.ARGS}: env_kwargs must be a mapping, not {args['env_kwargs']!r}.")
    config = _read_mapping(snapshot / layout.CONFIG)
    if not isinstance(config.get("normalize", False), bool | dict):
        # rl_zoo3 enjoy evaluates texts here as Python
        raise ValueError(f"{layout.CONFIG}: normalize must be true, false or a mapping, not {config['normalize']!r}.")
    model = snapshot / f"mdpo-{env_name}.zip"
    if not zipfile.is_zipfile(model):
        raise ValueError(f"{model.name} is not a zip file, so it is no model.")
    files = {
        f"{env_name}.zip": model.read_bytes(),
        f"{env_name}/{layout.ARGS}": yaml.safe_dump(args).encode(),
        f"{env_name}/{layout.CONFIG}": yaml.safe_dump(config).encode(),
    }
    if (snapshot / layout.ENV_KWARGS).exists():
        env_kwargs = _read_mapping(snapshot / layout.ENV_KWARGS)
        files[f"{env_name}/{layout.ENV_KWARGS}"] = yaml.safe_dump(env_kwargs).encode()
    for theirs, ours in ((layout.COMMAND, layout.COMMAND), (layout.STATISTICS, layout.LOCAL_STATISTICS)):
        if (snapshot / theirs).exists():
            files[f"{env_name}/{ours}"] = (snapshot / theirs).read_bytes()
    if config.get("normalize") and f"{env_name}/{layout.LOCAL_STATISTICS}" not in files:
        raise ValueError(
            f"{layout.CONFIG} says that observations or rewards are normalised, but {layout.STATISTICS} is missing."
        )
    return env_id, files | _read_metrics(snapshot / layout.METRICS)


def _folder_name(env_id: str) -> str:
    """What the zoo makes of an id like ``package:ALE/Pong-v5``."""
    return env_id.split(":")[-1].replace("/", "-")


def _read_mapping(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ValueError(f"The repository has no {path.name}: it was not made by sb3-mdpo push.")
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise ValueError(
            f"{path.name} is no plain YAML, which could run code when it is loaded: nothing was kept ({error})."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must be a mapping, not {type(content).__name__}.")
    return content


def _read_metrics(path: Path) -> dict[str, bytes]:
    if not path.exists():
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                if not METRICS_NAME.fullmatch(entry.filename):
                    raise ValueError(
                        f"{path.name} holds {entry.filename!r}, only monitor files and evaluations.npz may be."
                    )
                if entry.flag_bits & ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{path.name}: {entry.filename} is encrypted or compressed in an unusual way.")
            if sum(entry.file_size for entry in entries) > METRICS_LIMIT:
                raise ValueError(f"{path.name} unpacks to more than {METRICS_LIMIT} bytes.")
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise ValueError(f"{path.name} is not a zip file or damaged: {error}.") from error


def _move(run: Path, target: Path, replaced: Path) -> None:
    """Put a run in its place. What it replaces is moved aside, and back where that fails or is interrupted."""
    if not target.exists():
        os.rename(run, target)
        return
    os.rename(target, replaced)
    try:
        os.rename(run, target)
    except BaseException:
        os.rename(replaced, target)
        raise


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
