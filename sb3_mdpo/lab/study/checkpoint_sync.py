"""Copies of unfinished runs on shared storage, from which another machine can resume."""

import contextlib
import uuid
import warnings
from collections.abc import Iterable
from pathlib import Path

import fsspec.core

from sb3_mdpo.lab.study.folder import newest_checkpoint
from sb3_mdpo.persistence.checkpoints.callback import FOLDER as CHECKPOINTS


class CheckpointSync:
    """
    The copy of a run's working folder, at a path or any URL that fsspec understands. Files are replaced atomically and
    checkpoints are copied last: the copy is always resumable.
    """

    def __init__(self, url: str, work: Path) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(url)
        self.fs.invalidate_cache()  # other machines write there, too
        self.work = work
        self._newest: Path | None = None
        self._copied: dict[str, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Make the working folder from the copy, if there is one."""
        if not self.fs.isdir(self.root):
            return
        self.work.mkdir(parents=True)
        for path in self.fs.find(self.root):
            relative = path[len(self.root) :].lstrip("/")
            if not relative.endswith(".part"):
                (self.work / relative).parent.mkdir(parents=True, exist_ok=True)
                self.fs.get_file(path, str(self.work / relative))
        self._copied = self._stats()
        self._newest = newest_checkpoint(self.work)

    def update(self) -> None:
        """Copy what has changed if there is a new checkpoint. Errors are warnings: the next checkpoint tries again."""
        newest = newest_checkpoint(self.work)
        if newest is None or newest == self._newest:
            return
        self._newest = newest
        try:
            stats = self._stats()
            self._put(name for name, stat in stats.items() if self._copied.get(name) != stat)
            for name in self._copied.keys() - stats.keys():
                with contextlib.suppress(FileNotFoundError):
                    self.fs.rm_file(f"{self.root}/{name}")
            self._copied = stats
        except OSError as error:
            warnings.warn(f"{newest.name} could not be copied to {self.root} ({error}).", stacklevel=2)

    def remove(self) -> None:
        """Delete the copy."""
        if self.fs.isdir(self.root):
            self.fs.rm(self.root, recursive=True)
        self._copied, self._newest = {}, None

    def _stats(self) -> dict[str, tuple[int, int]]:
        """Time and size of every file, the newest checkpoint last."""
        files = [path for path in self.work.rglob("*") if path.is_file() and not path.name.startswith(".")]
        files.sort(key=lambda path: (path.parent.name == CHECKPOINTS, path))
        stats = [(path.relative_to(self.work).as_posix(), path.stat()) for path in files]
        return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in stats}

    def _put(self, names: Iterable[str]) -> None:
        for name in names:
            target = f"{self.root}/{name}"
            part = f"{target}.{uuid.uuid4().hex}.part"  # an attempt that is thought lost may still write
            self.fs.makedirs(self.fs._parent(target), exist_ok=True)
            self.fs.put_file(str(self.work / name), part)
            self.fs.mv(part, target)


def check_storage(url: str) -> None:
    """Write and delete a file; raises ``OSError``, ``ValueError`` or ``ImportError`` if that does not work."""
    fs, root = fsspec.core.url_to_fs(url)
    fs.makedirs(root, exist_ok=True)
    path = f"{root}/.{uuid.uuid4().hex}"
    fs.pipe_file(path, b"written")
    fs.rm_file(path)
