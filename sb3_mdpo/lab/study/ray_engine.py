"""Execute the runs of a study as tasks of a Ray cluster, which retries them if a machine is lost."""

import io
import shutil
import tarfile
from collections.abc import Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray.exceptions import RayError

from sb3_mdpo.lab.study.checkpoint_sync import CheckpointSync, check_storage
from sb3_mdpo.lab.study.config import Study
from sb3_mdpo.lab.study.folder import LOG, StudyFolder
from sb3_mdpo.lab.study.runner import Outcome, execute
from sb3_mdpo.lab.study.runs import PlannedRun
from sb3_mdpo.utils.atomic import replacing, replacing_folder

HERE = "local"  # Ray's name for a cluster of this machine alone, which ends with the command
SECONDS_TO_END = 60.0


def on_ray(
    study: Study, runs: Sequence[PlannedRun], folder: StudyFolder, address: str = HERE, storage: str | None = None
) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    """
    Execute each run as a task, see :func:`~sb3_mdpo.lab.study.runner.run_all`. Ray transfers their folders.

    :param address: of the cluster, as in ``ray.init()``: ``host:port``, ``auto`` for the one that is running here,
        ``local`` for this machine alone
    :param storage: folder of the unfinished runs: a path that all machines see, or any URL that fsspec understands;
        by default the folder ``unfinished`` of the study, which all machines must see
    """
    if study.device.startswith("cuda") and not study.resources.gpus:
        raise ValueError(
            f"device {study.device}: Ray hides GPUs from runs that ask for none: add resources: {{gpus: 1}}, or a "
            "fraction like 0.25, to the study file."
        )
    home = (folder.path / "unfinished").resolve()
    home.mkdir(parents=True, exist_ok=True)
    storage = str(home) if storage is None else storage.rstrip("/")
    check_storage(storage)
    ray.init(address, **({"include_dashboard": False} if address == HERE else {}))
    pending: list[Any] = []
    try:
        if address == HERE:
            _check_resources(study)
        resources = study.resources
        task = ray.remote(
            num_cpus=resources.cpus or study.threads,
            num_gpus=resources.gpus,
            max_retries=resources.retries,
            retry_exceptions=[KilledError, OSError],
        )(remote_run)
        tasks = {task.options(name=run.name).remote(run, storage, study.threads, study.device): run for run in runs}
        pending = list(tasks)
        while pending:
            (ended,), pending = ray.wait(pending)
            yield tasks[ended], _bring_home(ended, tasks[ended], folder, storage)
    finally:
        for unwanted in pending:
            ray.cancel(unwanted)
        if pending:  # trainings end with a checkpoint
            ray.wait(pending, num_returns=len(pending), timeout=SECONDS_TO_END, fetch_local=False)
        ray.shutdown()


def _check_resources(study: Study) -> None:
    """Only for this machine: other machines may join a cluster later, and Ray reports that it waits."""
    available = ray.cluster_resources()
    wanted = {"CPU": study.resources.cpus or study.threads, "GPU": study.resources.gpus}
    for kind, number in wanted.items():
        if number > available.get(kind, 0):
            raise ValueError(
                f"a run wants {number:g} {kind}s, but Ray finds {available.get(kind, 0):g} on this machine: change "
                f"resources: {{{kind.lower()}s: ...}} in the study file, or name a cluster that has them (--address)."
            )


def _bring_home(ended: Any, run: PlannedRun, folder: StudyFolder, storage: str) -> Outcome:
    """Move a run to its place in the study's folder."""
    shutil.rmtree(folder.failed(run), ignore_errors=True)
    outcome: Outcome
    try:
        outcome, packed = ray.get(ended)
    except RayError as error:  # no retries left; the next start resumes from the last checkpoint
        with replacing(folder.failed(run) / LOG) as log:
            log.write(f"{error}\n".encode())
        return "failed"
    unpack(packed, folder.complete(run) if outcome == "done" else folder.failed(run))
    CheckpointSync(f"{storage}/{run.name}", folder.unfinished(run)).remove()
    return outcome


class KilledError(Exception):
    """The training was killed, e.g. because the machine is out of memory or shuts down."""


def remote_run(run: PlannedRun, storage: str, threads: int, device: str) -> tuple[Outcome, bytes]:
    """
    Train one run on a machine of the cluster, from the last checkpoint in the storage, and return its outcome and its
    folder, packed. The folder is temporary, because an earlier attempt that is thought lost may still be writing.
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
    with replacing_folder(place) as folder, tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
