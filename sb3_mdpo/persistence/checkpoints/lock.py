"""The lock of a folder of checkpoints: one training writes there at a time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sb3_mdpo.common.ranks import from_first

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """
    Hold the lock of a folder of checkpoints, which is made if it does not exist. The system releases it however the
    process ends. A thread that holds it can acquire it again. Of a distributed training the first process holds it; a
    ``ValueError`` in all of them if another training does.
    """
    with ExitStack() as held:

        def acquire() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(folder / LOCK, timeout=0, is_singleton=True))
            except Timeout:
                raise ValueError(f"Another process is training in {folder}: wait for it, or stop it.") from None

        from_first(acquire)
        yield
