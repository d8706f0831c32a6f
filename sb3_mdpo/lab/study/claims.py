"""Which runs of a study are being trained, and by which command: several commands can share a study."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

SECONDS_TO_WAIT = 60.0  # others hold the lock to write a table


@contextmanager
def briefly_locked(path: Path) -> Iterator[None]:
    """Hold a lock that nobody holds for long; an ``OSError`` if somebody does."""
    try:
        held = FileLock(path).acquire(timeout=SECONDS_TO_WAIT)
    except Timeout as error:
        raise OSError(
            f"{path} has been locked for {SECONDS_TO_WAIT:g} seconds: end the process that holds it."
        ) from error
    with held:
        yield


class Claims:
    """
    A folder with two files per command: the names of the runs that it trains, and one that it keeps locked meanwhile.
    The system releases locks however a process ends. Claims are made and read under the study's lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def taken(self) -> set[str]:
        """Names of the runs that commands train now."""
        names: set[str] = set()
        for path in self.folder.glob("*.names"):
            lock = FileLock(path.with_suffix(".lock"), blocking=False)
            try:
                lock.acquire()
            except Timeout:
                with suppress(FileNotFoundError):  # it has just ended
                    names.update(path.read_text().splitlines())
            else:  # its command has ended without removing it
                _remove(path, lock)
        return names

    def claim(self, names: Iterable[str]) -> tuple[Path, FileLock]:
        """Claim runs until :meth:`release`."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{uuid.uuid4().hex}.names"
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
        path.write_text("\n".join(names))
        return path, lock

    @staticmethod
    def release(claim: tuple[Path, FileLock]) -> None:
        """Give the runs of a claim back."""
        _remove(*claim)


def _remove(path: Path, lock: FileLock) -> None:
    path.unlink(missing_ok=True)
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)
