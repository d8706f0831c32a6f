"""
Damaged files and command lines by the thousand: does every one end in a message, with nothing changed?

The surfaces and what is fed to them are those of tests/support/surfaces.py. What was tried is written to the work
folder batch by batch, unhandled inputs (findings) as files beside it; the same command resumes where it was stopped.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from report import argument_parser, table, write

BATCH = 50
MEMORY = 8 * 2**30  # bytes of address space beyond what is there at the start: a bomb ends as a MemoryError
PROGRESS = "progress.jsonl"
INSTRUMENTED = ["sb3_mdpo", "yaml", "zipfile", "json", "csv", "tests.support.surfaces"]
OUTCOMES = ("accepted", "refused", "finding")


class Record:
    """
    What has been tried, on disk.

    :param work: folder
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        self.batches: list[dict[str, Any]] = []
        with suppress(FileNotFoundError):
            self.batches = [json.loads(line) for line in (work / PROGRESS).read_text().splitlines()]

    def add(self, batch: dict[str, Any]) -> None:
        self.batches.append(batch)
        with (self.work / PROGRESS).open("a") as file:
            file.write(json.dumps(batch) + "\n")

    def inputs(self, surface: str, engine: str) -> int:
        return sum(sum(one["counts"].values()) for one in self.of(surface, engine))

    def of(self, surface: str, engine: str) -> list[dict[str, Any]]:
        return [one for one in self.batches if (one["surface"], one["engine"]) == (surface, engine)]

    def save_finding(self, surface: str, value: Any, message: str) -> str:
        """:return: name of the file with the input"""
        content = value if isinstance(value, bytes) else repr(value).encode(errors="surrogatepass")
        name = f"{surface.replace(' ', '_').replace(',', '')}-{zlib.crc32(content):08x}"
        (self.work / name).write_bytes(content)
        (self.work / f"{name}.txt").write_text(message, errors="backslashreplace")
        return name


class Tally:
    """
    Counts a batch.

    :param record: where findings are saved
    :param workspace: where inputs are tried
    :param surface: the surface
    """

    def __init__(self, record: Record, workspace: Any, surface: Any) -> None:
        self.record, self.workspace, self.surface = record, workspace, surface
        self.counts: Counter[str] = Counter()
        self.findings: dict[str, str] = {}
        self.start = time.perf_counter()

    def __call__(self, value: Any) -> None:
        outcome = self.workspace.try_input(self.surface, value)
        self.counts[outcome.kind] += 1
        if outcome.kind == "finding" and outcome.message[:80] not in self.findings:
            name = self.record.save_finding(self.surface.name, value, outcome.message)
            self.findings[outcome.message[:80]] = name

    def finish(self, engine: str) -> None:
        seconds = time.perf_counter() - self.start
        entry = {"surface": self.surface.name, "engine": engine, "counts": self.counts, "seconds": seconds}
        self.record.add(entry | {"findings": self.findings})


def run_hypothesis(record: Record, workspace: Any, surface: Any, seed: int) -> None:
    """Try one batch that hypothesis generates."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    tally = Tally(record, workspace, surface)
    number = len(record.of(surface.name, "hypothesis"))

    @seeded(zlib.crc32(f"{seed} {surface.name} {number}".encode()))
    @settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(surface.inputs)
    def try_all(value: Any) -> None:
        tally(value)

    try_all()
    tally.finish("hypothesis")


def run_atheris(record: Record, make: Callable[[], tuple[Any, Any]], inputs: int, seed: int) -> None:
    """Have atheris look for inputs that reach code which none has reached; ends this process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        workspace, surface = make()
    corpus = Path(tempfile.mkdtemp(prefix="corpus-"))
    (corpus / "valid").write_bytes(workspace.valid[workspace.folder / surface.file])
    tally = Tally(record, workspace, surface)

    def try_one(content: bytes) -> None:
        nonlocal tally
        tally(content)
        if sum(tally.counts.values()) == BATCH:
            tally.finish("atheris")
            tally = Tally(record, workspace, surface)

    largest = 2 * (corpus / "valid").stat().st_size
    flags = [f"-runs={inputs}", f"-seed={seed + 1}", f"-max_len={largest}", "-timeout=0", "-rss_limit_mb=0"]
    flags.append(f"-artifact_prefix={corpus}/")  # else it leaves files beside those that it tries
    atheris.Setup([sys.argv[0], *flags, str(corpus)], try_one)
    atheris.Fuzz()


def limit_memory() -> None:
    """Keep a bomb from taking the machine's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def run_all(record: Record, args: argparse.Namespace) -> None:
    """Try all surfaces in turns, then the fast ones until there are enough inputs."""
    from tests.support.surfaces import Workspace, seams, surfaces

    chosen = [surface for name, surface in surfaces().items() if args.surface in name]
    end = time.monotonic() + 60 * args.minutes
    limit_memory()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, seams():
        os.chdir(folder)
        workspace = Workspace(Path(folder))
        while time.monotonic() < end:
            done = {surface.name: record.inputs(surface.name, "hypothesis") for surface in chosen}
            behind = [surface for surface in chosen if done[surface.name] < args.inputs]
            if not behind and sum(done.values()) >= args.total:
                break
            least = min(behind, key=lambda surface: done[surface.name]) if behind else fastest(record, chosen)
            run_hypothesis(record, workspace, least, args.seed)
            last = record.batches[-1]
            counts = json.dumps(last["counts"])
            print(f"{last['surface']}: {counts} in {last['seconds']:.1f} s {last['findings'] or ''}", flush=True)
        os.chdir("/")


def fastest(record: Record, chosen: list[Any]) -> Any:
    """:return: of the five fastest surfaces the one with the fewest inputs"""

    def pace(surface: Any) -> float:
        return sum(one["seconds"] for one in record.of(surface.name, "hypothesis")) / record.inputs(
            surface.name, "hypothesis"
        )

    return min(sorted(chosen, key=pace)[:5], key=lambda surface: record.inputs(surface.name, "hypothesis"))


def summary(record: Record) -> str:
    """:return: Markdown: how many inputs were tried on what, and what became of them"""
    tables: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    seconds: Counter[tuple[str, str]] = Counter()
    for one in record.batches:
        key = one["surface"], one["engine"]
        tables[key].update(one["counts"])
        seconds[key] += one["seconds"]  # type: ignore[assignment]
    rows = [
        [*key, f"{sum(counts.values()):,}", *(f"{counts[kind]:,}" for kind in OUTCOMES), f"{seconds[key]:,.0f}"]
        for key, counts in sorted(tables.items())
    ]
    total: Counter[str] = sum(tables.values(), Counter())
    rows.append(["all", "", f"{sum(total.values()):,}", *(f"{total[kind]:,}" for kind in OUTCOMES), ""])
    head = ["surface", "engine", "inputs", "accepted", "refused with a message", "findings", "seconds"]
    return (
        "A finding is an exception that nobody handled, a message that is empty or longer than a "
        "line, a refused input after which a file is not what it was, or one that takes longer than a minute.\n\n"
        + table(head, rows)
    )


def run_in_processes(record: Record, args: argparse.Namespace) -> None:
    """atheris ends the process that it is called in, so each surface has its own."""
    from tests.support.surfaces import surfaces

    end = time.monotonic() + 60 * args.minutes
    for name, surface in surfaces().items():
        missing = args.inputs - record.inputs(name, "atheris")
        if args.surface in name and surface.file is not None and missing > 0 and time.monotonic() < end:
            command = [sys.executable, __file__, "--engine", "atheris", "--only", name, "--inputs", str(missing)]
            command += ["--work", str(args.work), "--seed", str(args.seed + record.inputs(name, "atheris"))]
            subprocess.run(command, check=False, timeout=max(60.0, end - time.monotonic()))
            record = Record(args.work)


def run_single(record: Record, args: argparse.Namespace) -> None:
    """One surface with atheris."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.chdir(folder)
    with ExitStack() as stack:

        def make() -> tuple[Any, Any]:
            from tests.support.surfaces import Workspace, seams, surfaces

            stack.enter_context(seams())
            return Workspace(folder), surfaces()[args.only]

        run_atheris(record, make, args.inputs, args.seed)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--inputs", type=int, default=2000, help="for every surface (default: 2000)")
    parser.add_argument("--total", type=int, default=100_000, help="in all, by hypothesis (default: 100000)")
    parser.add_argument("--minutes", type=float, default=600.0, help="when to stop (default: 600)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surface", default="", help="only surfaces with this in their name")
    parser.add_argument("--engine", choices=["hypothesis", "atheris"], default="hypothesis")
    parser.add_argument("--work", type=Path, default=Path("fuzz"), help="what was tried, and findings (default: fuzz)")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work, args.folder = args.work.resolve(), args.folder.resolve()
    record = Record(args.work)
    if args.only is not None:
        run_single(record, args)
        return
    if args.engine == "atheris":
        from sb3_mdpo.utils.optional_dependencies import need

        need("dev", atheris="atheris")
        run_in_processes(record, args)
    else:
        run_all(record, args)
    record = Record(args.work)
    write("fuzz", summary(record), record.batches, args.folder)
    sys.exit(any(one["findings"] for one in record.batches))


if __name__ == "__main__":
    main()
