"""Folders that are complete or not there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sb3_mdpo.persistence.export.document import CONFIG, TENSORS


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """
    Write an export so that at ``path`` there is never half of one. Folders cannot replace each other: between two
    renames there is none, and a process that is killed just then leaves the old one beside, as ``.<name>.<pid>.old``.

    :param path: folder to write; missing ones above it are made
    :return: context manager that gives an empty folder to write into
    :raises ValueError: where something else than an export is there, which would be lost
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    unfinished.mkdir()
    try:
        yield unfinished
        if path.exists():
            path.rename(old)
        unfinished.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for folder in (unfinished, old):
            shutil.rmtree(folder, ignore_errors=True)


def check_replaceable(path: Path) -> None:
    """
    :param path: folder to write
    :raises ValueError: where something else than an export is there
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ValueError(f"{path} is no folder: give a new name.")
    if path.is_dir() and {file.name for file in path.iterdir()} - {CONFIG, TENSORS}:
        raise ValueError(f"{path} holds other things than an export, which would be lost: give a new name.")
