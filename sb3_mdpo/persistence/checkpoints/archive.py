"""Checkpoints on disk: single files that are either complete or recognised as damaged."""

import hashlib
import io
import json
import re
import warnings
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import stable_baselines3
import torch as th

from sb3_mdpo._version import __version__
from sb3_mdpo.persistence.checkpoints.log_files import Position
from sb3_mdpo.persistence.checkpoints.snapshot import Snapshot
from sb3_mdpo.utils.atomic import replacing

# Increased when older versions of this package could no longer read what newer ones write
FORMAT = 1
MANIFEST, STATE = "manifest.json", "state.pkl"
PATTERN = re.compile(r"checkpoint_(\d+)\.zip")
DIGEST_SIZE = 2 * hashlib.sha256().digest_size  # in hexadecimal digits


class DamagedError(ValueError):
    """A file is no checkpoint, or not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """
    :param path: its file
    :param snapshot: the training
    :param texts: content of the files in ``snapshot.files``
    :param versions: what it was written with
    :param written: the file that it was written as
    """

    path: Path
    snapshot: Snapshot
    texts: dict[str, bytes]
    versions: dict[str, str]
    written: Path

    def is_a_copy(self) -> bool:
        """
        :return: whether the folder in which it was written is another one, which is still there
        """
        here, there = self.path.resolve().parent, self.written.parent
        return here != there and there.is_dir()


def versions() -> dict[str, str]:
    """
    :return: versions of what decides about the numbers of a training
    """
    return {
        "sb3-mdpo": __version__,
        "stable-baselines3": stable_baselines3.__version__,
        "torch": th.__version__,
    }


def write(folder: Path, snapshot: Snapshot) -> Path:
    """
    :param folder: folder of checkpoints, made where it is missing
    :param snapshot: what to write
    :return: the file, in which everything is on disk when this returns
    :raises OSError: where it cannot be written; what there was before is as it was
    """
    members = {STATE: snapshot.state}
    members |= {f"text/{index}": position.read() for index, position in enumerate(snapshot.files.values())}
    members |= {f"table/{index}": table for index, table in enumerate(snapshot.tables.values())}
    members |= {f"rank/{index}": state for index, state in enumerate(snapshot.others, 1)}
    fields = {key: value for key, value in vars(snapshot).items() if key not in ("state", "others")}
    fields |= {"tables": [*snapshot.tables], "ranks": 1 + len(snapshot.others)}
    path = folder / f"checkpoint_{snapshot.num_timesteps:012d}.zip"
    manifest = {
        "format": FORMAT,
        "path": path.resolve(),
        "versions": versions(),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
        **fields,
    }
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1, default=_plain))
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = b"0" * DIGEST_SIZE  # the end of the file, for the digest of all that comes before
    written = memory.getbuffer()[:-DIGEST_SIZE]
    with replacing(path) as file:
        file.write(written)
        file.write(hashlib.sha256(written).hexdigest().encode())
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return asdict(value)


def read(path: Path) -> Checkpoint:
    """
    What is in it is only unpickled later, by ``Training``; that can execute code, so read your own only.

    :param path: file that :func:`write` made
    :return: the checkpoint
    :raises DamagedError: where a single bit is not as it was written
    :raises ValueError: where a newer version of this package wrote it
    """
    content = memoryview(path.read_bytes())
    digest = hashlib.sha256(content[:-DIGEST_SIZE]).hexdigest().encode()
    if digest != content[-DIGEST_SIZE:]:
        raise DamagedError(f"{path} is damaged: it is not what was written.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        manifest = json.loads(archive.read(MANIFEST))
        if manifest["format"] > FORMAT:
            raise ValueError(
                f"{path} has format {manifest['format']}, but sb3-mdpo {__version__} reads up to {FORMAT}: "
                "install a newer sb3-mdpo."
            )
        texts = {name: archive.read(f"text/{index}") for index, name in enumerate(manifest["files"])}
        snapshot = Snapshot(
            manifest["num_timesteps"],
            manifest["iterations"],
            manifest["seconds"],
            manifest["settings"],
            manifest["problems"],
            archive.read(STATE),
            {name: _position(value) for name, value in manifest["files"].items()},
            {name: archive.read(f"table/{index}") for index, name in enumerate(manifest["tables"])},
            {name: list(map(_position, values)) for name, values in manifest["events"].items()},
            [archive.read(f"rank/{index}") for index in range(1, manifest.get("ranks", 1))],
        )
    return Checkpoint(path, snapshot, texts, manifest["versions"], Path(manifest["path"]))


def _position(value: dict[str, Any]) -> Position:
    return Position(Path(value["path"]), value["size"])


def checkpoints(folder: Path) -> list[Path]:
    """
    :param folder: folder of checkpoints, which need not exist
    :return: their files, the newest first
    """
    found = {int(match[1]): path for path in folder.glob("*") if (match := PATTERN.fullmatch(path.name))}
    return [found[steps] for steps in sorted(found, reverse=True)]


def read_newest(folder: Path) -> Checkpoint | None:
    """
    Read the newest checkpoint that is as it was written. Newer ones that are not get the suffix ``.damaged``.

    :param folder: folder of checkpoints, which need not exist
    :return: the checkpoint; None where there are none at all
    :raises ValueError: where all are damaged; they stay where they are
    """
    paths = checkpoints(folder)
    for number, path in enumerate(paths):
        try:
            newest = read(path)
        except DamagedError:
            continue
        for damaged in paths[:number]:
            warnings.warn(f"{damaged} is damaged: it is put aside, and the one before it is used.", stacklevel=3)
            damaged.rename(damaged.with_name(f"{damaged.name}.damaged"))
        return newest
    if paths:
        raise ValueError(f"All checkpoints in {folder} are damaged: delete the folder to begin anew.")
    return None


def remove_rest(folder: Path, keep: int) -> None:
    """
    :param folder: folder of checkpoints
    :param keep: how many of the newest are kept; what a killed process left half written is removed too
    """
    for path in [*checkpoints(folder)[keep:], *folder.glob(".checkpoint_*.tmp")]:
        path.unlink()
