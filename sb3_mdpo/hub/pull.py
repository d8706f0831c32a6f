"""``sb3-mdpo pull``: a shared run as a run folder of the zoo.

What comes from the Hub is somebody else's. Without ``trust`` nothing of it is handed on that could run code when it
is used: pickles are not even downloaded, the model's zip file is written here from the export, and what the zoo
evaluates or imports must be on a list. Nothing is unpickled in any case, and no name of a file or folder is used
before it has been checked.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, snapshot_download

from sb3_mdpo.hub import layout
from sb3_mdpo.hub.connection import connection_errors
from sb3_mdpo.hub.settings import folder_name
from sb3_mdpo.hub.snapshot import read_snapshot

PICKLED_MODEL = re.compile(r"mdpo-[A-Za-z0-9][A-Za-z0-9._-]*\.zip")
SETTINGS = (layout.CONFIG, layout.ARGS, layout.COMMAND, layout.ENV_KWARGS, layout.METRICS)


@dataclass(frozen=True)
class PulledRun:
    """
    :param folder: the run's folder
    :param env_id: id of its environment
    :param exp_id: its number
    :param pickled: whether the model is the author's own pickle, and not one that was made here of plain data
    """

    folder: Path
    env_id: str
    exp_id: int
    pickled: bool


def pull_run(
    repo_id: str,
    folder: Path = Path("logs"),
    *,
    exp_id: int = 0,
    force: bool = False,
    revision: str | None = None,
    trust: bool = False,
) -> PulledRun:
    """
    Download a run that was shared with ``sb3-mdpo push``, ready for ``rl_zoo3 enjoy``. The run's folder
    appears when it is complete. Nothing in it is run.

    :param repo_id: repository on the Hub
    :param folder: log folder of the zoo
    :param exp_id: number of the run, 0 for the one after the latest
    :param force: whether to replace the run of that number
    :param revision: branch, tag or commit, by default the latest commit of the main branch
    :param trust: whether to take pickles where the repository has them, and settings that could run code when the
        run is used
    :return: where it is
    :raises ValueError: where the repository holds no such run, or one that could run code and is not trusted
    :raises OSError: where the Hub refuses or cannot be reached
    :raises FileExistsError: where there is a run of that number and it is not to be replaced
    """
    if exp_id < 0:
        raise ValueError(f"--exp-id {exp_id} must not be negative: leave it out for a new run.")
    if force and exp_id == 0:
        raise ValueError("--force replaces the run that --exp-id names: say which, or leave it out for a new run.")
    with TemporaryDirectory() as name:
        snapshot = Path(name) / "snapshot"
        with connection_errors():
            pickled = _download(repo_id, revision, snapshot, trust)
        env_id, files = read_snapshot(snapshot, trust)
    from rl_zoo3.utils import get_latest_run_id  # seconds, with torch: only for what is worth them

    logs, env_name = Path(folder) / "mdpo", folder_name(env_id)
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
    return PulledRun(target, env_id, number, pickled)


def _download(repo_id: str, revision: str | None, snapshot: Path, trust: bool) -> bool:
    """
    Into a folder of its own and not into the cache, whose links exports are not read through and where what is
    refused would stay.
    """
    info = HfApi().model_info(repo_id, revision=revision)
    names = {sibling.rfilename for sibling in info.siblings or []}
    zips = [name for name in names if PICKLED_MODEL.fullmatch(name)]
    exported = names.issuperset(layout.EXPORT)
    if not exported and len(zips) != 1:
        raise ValueError(
            f"{repo_id} holds no {' and '.join(layout.EXPORT)}, and {len(zips)} models named mdpo-<environment>.zip, "
            "not one: give a repository that was made by sb3-mdpo push."
        )
    if not exported and not trust:
        raise ValueError(
            f"{repo_id} holds its model as {zips[0]} alone, a pickle, which runs whatever code its author put in: use "
            "--trust if you trust who shared it, or ask them to push it again with this version of sb3-mdpo."
        )
    pickled = trust and len(zips) == 1
    model = (zips[0], layout.STATISTICS) if pickled else (*layout.EXPORT, layout.NORMALIZATION)
    snapshot_download(repo_id, revision=info.sha, local_dir=snapshot, allow_patterns=[*SETTINGS, *model])
    return pickled


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
