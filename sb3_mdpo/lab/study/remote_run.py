"""One attempt at a run on some machine of a cluster."""

import io
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from sb3_mdpo.lab.study.checkpoint_sync import Mirror
from sb3_mdpo.lab.study.folder import StudyFolder
from sb3_mdpo.lab.study.runner import Outcome, execute
from sb3_mdpo.lab.study.runs import PlannedRun


class KilledError(Exception):
    """The training was killed from outside, as machines do that are short of memory or about to be taken away."""


def attempt(run: PlannedRun, storage: str, threads: int, device: str) -> tuple[Outcome, bytes]:
    """
    Train one run in a temporary folder of this machine, from the last checkpoint that an earlier attempt left in the
    storage. No two attempts share a folder: one that is thought lost may still be writing.

    :param run: the run
    :param storage: where unfinished runs are kept: a path that all machines see, or any URL that fsspec understands
    :param threads: PyTorch's threads
    :param device: PyTorch device
    :return: how it ended, and its folder as :func:`pack` packs it
    :raises KilledError: if the training was killed
    :raises OSError: if the storage cannot be read
    """
    with TemporaryDirectory(prefix="sb3_mdpo_") as scratch:
        folder = StudyFolder(Path(scratch))
        mirror = Mirror(f"{storage}/{run.name}", folder.unfinished(run))
        mirror.fetch()
        if folder.resumable(run) is None:
            mirror.remove()  # of other settings, or without a checkpoint

        def keep() -> bool:
            mirror.update()
            return False

        try:
            outcome = execute(run, folder, threads, device, stopped=keep)
        finally:
            mirror.update()  # an interrupted training ends with a checkpoint
        if outcome == "interrupted":
            raise KilledError(f"The training of {run.name} was killed.")
        return outcome, pack(folder.complete(run) if outcome == "done" else folder.failed(run))


def pack(folder: Path) -> bytes:
    """
    :param folder: a folder
    :return: all that is in it
    """
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        archive.add(folder, arcname=".")
    return memory.getvalue()


def unpack(packed: bytes, place: Path) -> None:
    """
    Put a folder in its place, complete or not at all.

    :param packed: from :func:`pack`
    :param place: the folder, which does not exist yet
    """
    place.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=place.parent, prefix=".unpacked_") as unpacked:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(Path(unpacked, place.name), filter="data")
        Path(unpacked, place.name).rename(place)
