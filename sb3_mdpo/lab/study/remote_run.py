"""Train one run on a machine of a cluster."""

import io
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from sb3_mdpo.lab.study.checkpoint_sync import CheckpointSync
from sb3_mdpo.lab.study.folder import StudyFolder
from sb3_mdpo.lab.study.runner import Outcome, execute
from sb3_mdpo.lab.study.runs import PlannedRun


class KilledError(Exception):
    """The training was killed, e.g. because the machine is out of memory or shuts down."""


def remote_run(run: PlannedRun, storage: str, threads: int, device: str) -> tuple[Outcome, bytes]:
    """
    Train one run in a temporary folder, from the last checkpoint in the storage. Attempts do not share a folder: one
    that is thought lost may still be writing.

    :param run: the run
    :param storage: folder of the unfinished runs: a path that all machines see, or any URL that fsspec understands
    :param threads: PyTorch's threads
    :param device: PyTorch device
    :return: its outcome, and its folder, packed
    :raises KilledError: if the training was killed
    :raises OSError: if the storage cannot be read
    """
    with TemporaryDirectory(prefix="sb3_mdpo_") as scratch:
        folder = StudyFolder(Path(scratch))
        sync = CheckpointSync(f"{storage}/{run.name}", folder.unfinished(run))
        sync.fetch()
        if folder.resumable(run) is None:
            sync.remove()  # other settings, or no checkpoint

        def sync_only() -> bool:
            sync.update()
            return False

        try:
            outcome = execute(run, folder, threads, device, stopped=sync_only)
        finally:
            sync.update()  # an interrupted training ends with a checkpoint
        if outcome == "interrupted":
            raise KilledError(f"The training of {run.name} was killed.")
        return outcome, pack(folder.complete(run) if outcome == "done" else folder.failed(run))


def pack(folder: Path) -> bytes:
    """The content of a folder as a tar archive."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        archive.add(folder, arcname=".")
    return memory.getvalue()


def unpack(packed: bytes, place: Path) -> None:
    """Extract what :func:`pack` returned to a new folder, completely or not at all."""
    place.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=place.parent, prefix=".unpacked_") as unpacked:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(Path(unpacked, place.name), filter="data")
        Path(unpacked, place.name).rename(place)
