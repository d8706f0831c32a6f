"""Checkpoint files: snapshots of a training in zip files that are either complete or recognized as damaged."""

import io
import json
import re
import warnings
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import stable_baselines3
import torch as th

from sb3_mdpo._version import __version__
from sb3_mdpo.common.save_util import ZIP_ERRORS
from sb3_mdpo.persistence.checkpoints.log_files import Position
from sb3_mdpo.utils.atomic import remove_unfinished, replacing

# Increased when older versions of this package can no longer read what newer ones write
FORMAT = 1
MANIFEST, STATE = "manifest.json", "state.pkl"
PATTERN = re.compile(r"checkpoint_(\d+)\.zip")
# Packages whose version affects the numbers of a training
VERSIONS = {"sb3-mdpo": __version__, "stable-baselines3": stable_baselines3.__version__, "torch": str(th.__version__)}


@dataclass(frozen=True)
class Snapshot:
    """A training at the start of a rollout."""

    num_timesteps: int  #: environment steps of all policies together
    iterations: int  #: rollouts that were followed by an update
    seconds: float  #: duration of the training so far
    settings: dict[str, Any]  #: arguments of the model that are numbers, booleans, strings or SB3's schedules
    problems: list[str]  #: reasons why a training resumed from here is not identical; empty if it is
    state: bytes  #: pickle of the state of the training
    files: dict[str, Position]  #: files that only grow, by name
    tables: dict[str, bytes]  #: content of files that are sometimes rewritten, by name
    events: dict[str, list[Position]]  #: TensorBoard's files, by name of the logger's output
    others: list[bytes] = field(default_factory=list)  #: ``state`` of the further processes of a distributed training


@dataclass(frozen=True)
class Checkpoint:
    """A snapshot that was read from a file."""

    path: Path
    snapshot: Snapshot
    texts: dict[str, bytes]  #: content of the files in ``snapshot.files``
    versions: dict[str, str]  #: of the packages that it was written with
    written: Path  #: path that it was written to

    @property
    def is_a_copy(self) -> bool:
        """Whether it was written to another folder that still exists."""
        here, there = self.path.resolve().parent, self.written.parent
        return here != there and there.is_dir()


class DamagedError(ValueError):
    """A file is not a complete checkpoint."""


def write(folder: Path, snapshot: Snapshot) -> Path:
    """Write a snapshot to disk; returns its file. If that fails, older checkpoints stay as they are."""
    path = folder / f"checkpoint_{snapshot.num_timesteps:012d}.zip"
    members = {STATE: snapshot.state}
    members |= {f"text/{index}": position.read() for index, position in enumerate(snapshot.files.values())}
    members |= {f"table/{index}": table for index, table in enumerate(snapshot.tables.values())}
    members |= {f"rank/{index}": state for index, state in enumerate(snapshot.others, 1)}
    fields = {name: value for name, value in vars(snapshot).items() if name not in ("state", "others")}
    fields |= {"tables": [*snapshot.tables], "ranks": 1 + len(snapshot.others)}
    manifest = {"format": FORMAT, "path": path.resolve(), "versions": VERSIONS, **fields}
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1, default=_to_json))
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _to_json(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else asdict(value)


def read(path: Path) -> Checkpoint:
    """
    Read a checkpoint. ``Training`` unpickles its state later, which can execute code: read only your own checkpoints.

    :raises DamagedError: if it is not complete, or the checksum of a part is wrong
    """
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            if manifest["format"] <= FORMAT:
                return _checkpoint(path, archive, manifest)
    except (*ZIP_ERRORS, AttributeError, TypeError) as error:
        raise DamagedError(f"{path} is damaged ({error}).") from error
    raise ValueError(
        f"{path} has format {manifest['format']}, but sb3-mdpo {__version__} reads up to {FORMAT}: install a newer "
        "sb3-mdpo."
    )


def _checkpoint(path: Path, archive: zipfile.ZipFile, manifest: dict[str, Any]) -> Checkpoint:
    snapshot = Snapshot(
        **{name: manifest[name] for name in ("num_timesteps", "iterations", "seconds", "settings", "problems")},
        state=archive.read(STATE),
        files={name: _position(value) for name, value in manifest["files"].items()},
        tables={name: archive.read(f"table/{index}") for index, name in enumerate(manifest["tables"])},
        events={name: list(map(_position, values)) for name, values in manifest["events"].items()},
        others=[archive.read(f"rank/{index}") for index in range(1, manifest["ranks"])],
    )
    texts = {name: archive.read(f"text/{index}") for index, name in enumerate(manifest["files"])}
    return Checkpoint(path, snapshot, texts, manifest["versions"], Path(manifest["path"]))


def _position(value: dict[str, Any]) -> Position:
    return Position(Path(value["path"]), value["size"])


def checkpoints(folder: Path) -> list[Path]:
    """Files of the checkpoints in a folder, the newest first."""
    files = (path for path in folder.glob("*") if path.is_file())
    found = {int(match[1]): path for path in files if (match := PATTERN.fullmatch(path.name))}
    return [found[steps] for steps in sorted(found, reverse=True)]


def steps_of(checkpoint: Path) -> int:
    """Environment steps until a checkpoint."""
    return int(checkpoint.stem.removeprefix("checkpoint_"))


def find_newest(folder: Path) -> tuple[Checkpoint | None, list[Path]]:
    """
    The newest checkpoint that is not damaged, None if there are none at all, and the damaged ones that are newer. A
    ``ValueError`` if all are damaged.
    """
    paths = checkpoints(folder)
    for number, path in enumerate(paths):
        with suppress(DamagedError):
            return read(path), paths[:number]
    if paths:
        raise ValueError(f"All checkpoints in {folder} are damaged: delete the folder to start anew.")
    return None, []


def read_newest(folder: Path) -> Checkpoint | None:
    """As :func:`find_newest`; the damaged ones are renamed to end in ``.damaged``."""
    newest, damaged = find_newest(folder)
    for path in damaged:
        warnings.warn(f"{path} is damaged: it is put aside, and the one before it is used.", stacklevel=3)
        path.rename(path.with_name(f"{path.name}.damaged"))
    return newest


def remove_old(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints, and unfinished files of killed processes."""
    for path in checkpoints(folder)[keep:]:
        path.unlink()
    remove_unfinished(folder, "checkpoint_*.zip")
