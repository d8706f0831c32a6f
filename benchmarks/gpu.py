"""Check and measure on a GPU what a CPU cannot show, in at most 20 minutes on an H100.

python benchmarks/gpu.py
python benchmarks/gpu.py --device cpu --miniature

Every part runs in a process of its own and is ended if it exceeds its budget; the others go on. Checks print pass or
FAIL; the exit code is 1 if one failed or a part ended with an error. The miniature runs on little data whatever a CPU
can run: it shows that the program works, and its times mean nothing.

float32 is without TF32 except where a row says otherwise. Tolerances are beside the results.
"""

import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import gpu_checks
import gpu_timings
import torch as th
from gpu_setup import Part, Row, Setup
from report import argument_parser, commit, table, write


def device(setup: Setup) -> Iterator[Row]:
    """What the device is."""
    if not setup.on_cuda:
        yield Row("name", setup.device)
        return
    about = th.cuda.get_device_properties(setup.device)
    nccl = ".".join(map(str, th.cuda.nccl.version()))
    versions = {"CUDA": th.version.cuda, "cuDNN": th.backends.cudnn.version(), "NCCL": nccl}
    yield Row("name", f"{about.name}, {about.total_memory / 2**30:.0f} GiB, {about.multi_processor_count} processors")
    yield Row("versions", ", ".join(f"{name} {number}" for name, number in versions.items()), None, versions)


# Budgets in seconds, 20 minutes in all. What the parts take on an H100 has not been measured yet
PARTS = [
    Part("device", device, 15),
    Part("parity with the authors' update", gpu_checks.parity, 60),
    Part("chunks and bf16 against float32", gpu_checks.faster_paths, 90),
    Part("one process with NCCL", gpu_checks.one_process, 60),
    Part("exact resume", gpu_checks.resume, 120),
    Part("synchronisations", gpu_checks.synchronizations, 60),
    Part("CUDA graph, vectors", gpu_timings.graph_of_vectors, 60),
    Part("CUDA graph, images", gpu_timings.graph_of_images, 90),
    Part("torch.compile of the update, vectors", gpu_timings.compiled_vectors, 120),
    Part("MDPO(compile=True), images", gpu_timings.compiled_update, 150),
    Part("iterations and overlap", gpu_timings.iterations, 160),
    Part("memory of an update", gpu_timings.memory, 45),
    Part("rollouts on host and device", gpu_timings.rollouts_on_host, 80),
]


GRACE = 5.0  # seconds for a process to end by itself


@dataclass
class Outcome:
    """
    :param part: name of the part
    :param budget: in seconds, None for no limit
    :param rows: what it yielded before it ended
    :param error: why it ended early, in a line
    :param trace: traceback of the error
    :param seconds: how long it took
    """

    part: str
    budget: float | None
    rows: list[Row] = field(default_factory=list)
    error: str | None = None
    trace: str | None = None
    seconds: float = 0.0


def _work(part: Part, setup: Setup, sender: Connection) -> None:
    try:
        for row in part.function(setup):
            sender.send(row)
        sender.send(None)
    except Exception as error:  # of whatever kind: it goes into the table
        sender.send((f"{type(error).__name__}: {error}", traceback.format_exc()))


def processes() -> multiprocessing.context.BaseContext:
    """Processes that start with everything imported and have not touched the device."""
    benchmarks = Path(__file__).resolve().parent
    paths = [str(benchmarks.parent), str(benchmarks), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # of the server, which knows no sys.path
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gpu_checks", "gpu_timings"])
    return context


def outcome_of(part: Part, setup: Setup, context: multiprocessing.context.BaseContext) -> Outcome:
    """Run a part in a process of its own. Its rows are printed as they come."""
    start = time.monotonic()
    outcome = Outcome(part.name, None if setup.miniature else part.budget)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(part, setup, sender))  # type: ignore[attr-defined]
    process.start()
    sender.close()
    try:
        for row in _received(receiver, start, outcome):
            outcome.rows.append(row)
            print(f"{part.name}: {row.what}: {row.result}{_verdict(row, ': ')}", flush=True)
        process.join(GRACE)
    finally:
        process.kill()
        process.join()
    outcome.seconds = time.monotonic() - start
    if outcome.error is not None:
        print(f"{part.name}: ERROR: {outcome.error}", flush=True)
    return outcome


def _received(receiver: Connection, start: float, outcome: Outcome) -> Iterator[Row]:
    while True:
        left = None if outcome.budget is None else max(0.0, start + outcome.budget - time.monotonic())
        if not receiver.poll(left):
            outcome.error = f"longer than its budget of {outcome.budget:g} s"
            return
        try:
            received = receiver.recv()
        except EOFError:
            outcome.error = "its process died"
            return
        if isinstance(received, tuple):
            outcome.error, outcome.trace = received
        if not isinstance(received, Row):
            return
        yield received


def _verdict(row: Row, before: str = "") -> str:
    return "" if row.passed is None else before + ("pass" if row.passed else "FAIL")


def has_failed(outcomes: Sequence[Outcome]) -> bool:
    return any(one.error is not None or any(row.passed is False for row in one.rows) for one in outcomes)


def summary(outcomes: Sequence[Outcome], setup: Setup) -> str:
    checks = [row.passed for one in outcomes for row in one.rows if row.passed is not None]
    errors = [one for one in outcomes if one.error is not None]
    rows = []
    for one in outcomes:
        rows += [[one.part, row.what, row.result, _verdict(row)] for row in one.rows]
        if one.error is not None:
            rows.append([one.part, f"after {one.seconds:.0f} s", one.error, "ERROR"])
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    title = (
        f"Device {setup.device}, seed {setup.seed}{', in miniature: times mean nothing' if setup.miniature else ''}. "
        f"{sum(checks)} of {len(checks)} checks passed, {len(errors)} of {len(outcomes)} parts ended with an error, in "
        f"{sum(one.seconds for one in outcomes):.0f} s."
    )
    return f"{title}\n\n{table(['part', 'what', 'result', 'check'], cells)}"


def main() -> None:
    parser = argument_parser(__doc__)
    names = [part.name for part in PARTS]
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--miniature", action="store_true", help="little data and no budgets")
    parser.add_argument("--parts", nargs="+", choices=names, metavar="PART", help=f"only these: {', '.join(names)}")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    setup = Setup(args.device, args.miniature, args.seed)
    if setup.on_cuda and not th.cuda.is_available():
        parser.error(f"--device {args.device}: there is no CUDA device; --device cpu --miniature runs what a CPU can")
    if not setup.on_cuda and not args.miniature:
        parser.error(f"--device {args.device} takes hours without --miniature")
    try:  # now rather than after 20 minutes
        commit()
    except (OSError, subprocess.CalledProcessError):
        parser.error(
            "results name the commit, but this is not a git checkout: git init && git add . && git commit -m copy"
        )
    context = processes()
    outcomes = [outcome_of(part, setup, context) for part in PARTS if part.name in (args.parts or names)]
    raw = {"device": args.device, "seed": args.seed, "miniature": args.miniature, "parts": list(map(asdict, outcomes))}
    write("gpu", summary(outcomes, setup), raw, args.folder)
    sys.exit(has_failed(outcomes))


if __name__ == "__main__":
    main()
