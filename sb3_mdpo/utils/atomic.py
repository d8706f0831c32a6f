"""Atomic writes of files and folders."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Context that yields a file to write to, which replaces ``path`` once it is complete. Makes missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, replaceable: Collection[str] | None = None) -> Iterator[Path]:
    """
    Context that yields an empty folder to write files to, which replaces ``path`` once it is complete. A process killed
    between the two renames leaves the old folder as ``.<name>.<pid>.old``. A ``ValueError`` if an existing folder holds
    other files than those that are replaceable, by default all.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ValueError(f"{path} is not a folder: use a new name.")
    names = {file.name for file in path.iterdir()} if path.is_dir() else set()
    if replaceable is not None and (others := sorted(names - set(replaceable))):
        raise ValueError(f"{path} also holds {', '.join(others[:3])}, which would be lost: use a new name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    unfinished.mkdir()
    try:
        yield unfinished
        for file in filter(Path.is_file, unfinished.rglob("*")):
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        _sync_folder(unfinished)
        if path.exists():
            path.rename(old)
        unfinished.rename(path)
        _sync_folder(path.parent)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for folder in (unfinished, old):
            shutil.rmtree(folder, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Flush new names in a folder to disk, on systems where folders can be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
