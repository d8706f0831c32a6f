"""
Damaged files and command lines by the thousand: does every one end in a message, soon, with nothing changed?

The surfaces and their inputs are those of tests/support/surfaces.py. What was tried is written to the work folder batch
by batch, unhandled inputs (findings) as files beside it; the same command resumes where it was stopped.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from report import argument_parser, table, write

BATCH = 50
MEMORY = 8 * 2**30  # bytes of address space beyond what is used at the start: a bomb ends as a MemoryError
INSTRUMENTED = ["sb3_mdpo", "yaml", "zipfile", "json", "csv", "tests.support.surfaces"]
OUTCOMES = ("accepted", "refused", "finding")


class Record:
    """
    What has been tried, in memory and on disk.

    :param work: folder
    """

    def __init__(self, work: Path) -> None:
        self.work, self.file = work, work / "progress.jsonl"
        work.mkdir(parents=True, exist_ok=True)
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.batches: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def add(self, batch: dict[str, Any]) -> None:
        self.batches.append(batch)
        with self.file.open("a") as file:
            file.write(json.dumps(batch) + "\n")
        print(
            f"{batch['surface']}: {batch['counts']} in {batch['seconds']:.1f} s {batch['findings'] or ''}", flush=True
        )

    def of(self, surface: str, engine: str) -> list[dict[str, Any]]:
        return [one for one in self.batches if (one["surface"], one["engine"]) == (surface, engine)]

    def inputs(self, surface: str, engine: str) -> int:
        return sum(sum(one["counts"].values()) for one in self.of(surface, engine))

    def pace(self, surface: str, engine: str) -> float:
        """:return: seconds per input"""
        return sum(one["seconds"] for one in self.of(surface, engine)) / self.inputs(surface, engine)


class Batch:
    """Tries inputs on a surface and adds them to the record, ``BATCH`` at a time."""

    def __init__(self, record: Record, workspace: Any, surface: Any, engine: str) -> None:
        self.record, self.workspace, self.surface, self.engine = record, workspace, surface, engine
        self._begin()

    def _begin(self) -> None:
        self.start = time.perf_counter()
        self.counts: Counter[str] = Counter()
        self.findings: dict[str, str] = {}
        self.usage = {"slowest": 0.0, "largest": 0}

    def __call__(self, value: Any) -> None:
        outcome = self.workspace.try_input(self.surface, value)
        self.counts[outcome.kind] += 1
        for name, value_of in (("slowest", outcome.usage.seconds), ("largest", outcome.usage.mebibytes)):
            self.usage[name] = max(self.usage[name], value_of)
        if outcome.kind == "finding" and outcome.message[:80] not in self.findings:
            content = value if isinstance(value, bytes) else repr(value).encode(errors="surrogatepass")
            name = f"{self.surface.name.replace(' ', '_').replace(',', '')}-{zlib.crc32(content):08x}"
            (self.record.work / name).write_bytes(content)
            (self.record.work / f"{name}.txt").write_text(outcome.message, errors="backslashreplace")
            self.findings[outcome.message[:80]] = name
        if self.counts.total() == BATCH:
            about = {"surface": self.surface.name, "engine": self.engine, "seconds": time.perf_counter() - self.start}
            self.record.add(about | self.usage | {"counts": self.counts, "findings": self.findings})
            self._begin()


@contextmanager
def surfaces_in_a_folder() -> Any:
    """:return: context manager of a workspace that is the working folder, and the surfaces by name"""
    from tests.support.surfaces import Workspace, nothing_begins, surfaces
    from tests.support.workspace import working_folder

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, working_folder(folder), nothing_begins():
        yield Workspace(Path(folder)), surfaces()


def run_hypothesis(record: Record, args: argparse.Namespace) -> None:
    """Try all surfaces in turns, then the fast ones until there are enough inputs."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    end = time.monotonic() + 60 * args.minutes
    with surfaces_in_a_folder() as (workspace, surfaces):
        chosen = [name for name in surfaces if args.surface in name]
        while time.monotonic() < end:
            done = {name: record.inputs(name, "hypothesis") for name in chosen}
            behind = [name for name in chosen if done[name] < args.inputs]
            if not behind and sum(done.values()) >= args.total:
                return
            fastest = behind or sorted(chosen, key=lambda name: record.pace(name, "hypothesis"))[:5]
            name = min(fastest, key=lambda name: done[name])
            number = len(record.of(name, "hypothesis"))
            given_batch = given(surfaces[name].inputs)(Batch(record, workspace, surfaces[name], "hypothesis").__call__)
            seeded = seed(zlib.crc32(f"{args.seed} {name} {number}".encode()))(given_batch)
            settings(
                max_examples=BATCH,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(seeded)()


def run_atheris(record: Record, args: argparse.Namespace) -> None:
    """Have atheris look for inputs of one surface that reach code which none has reached; ends this process."""
    import atheris

    with ExitStack() as stack:
        with atheris.instrument_imports(include=INSTRUMENTED):
            workspace, surfaces = stack.enter_context(surfaces_in_a_folder())
        surface = surfaces[args.only]
        valid = Path(surface.file).read_bytes()
        corpus = Path(tempfile.mkdtemp(prefix="corpus-"))
        (corpus / "valid").write_bytes(valid)
        flags = [f"-runs={args.inputs}", f"-seed={args.seed + 1}", f"-max_len={2 * len(valid)}", "-timeout=0"]
        flags += ["-rss_limit_mb=0", f"-artifact_prefix={corpus}/"]  # else it leaves files beside those that it tries
        atheris.Setup([sys.argv[0], *flags, str(corpus)], Batch(record, workspace, surface, "atheris"))
        atheris.Fuzz()


def run_in_processes(record: Record, args: argparse.Namespace) -> None:
    """atheris ends the process that it is called in, so each surface has its own."""
    from tests.support.surfaces import FILES

    end = time.monotonic() + 60 * args.minutes
    for name in FILES:
        missing = args.inputs - record.inputs(name, "atheris")
        if args.surface in name and missing > 0 and time.monotonic() < end:
            command = [sys.executable, __file__, "--engine", "atheris", "--only", name, "--inputs", str(missing)]
            command += ["--work", str(args.work), "--seed", str(args.seed + record.inputs(name, "atheris"))]
            subprocess.run(command, check=False, timeout=max(60.0, end - time.monotonic()))


def summary(record: Record) -> str:
    """:return: Markdown: how many inputs were tried on what, and what became of them"""
    from tests.support.surfaces import HANGS, MEBIBYTES, SECONDS

    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for one in record.batches:
        counts[one["surface"], one["engine"]].update(one["counts"])
    rows = []
    for key, of in sorted(counts.items()):
        slowest, largest = (max(one[name] for one in record.of(*key)) for name in ("slowest", "largest"))
        numbers = [of.total(), *(of[kind] for kind in OUTCOMES), record.pace(*key) * of.total()]
        rows.append([*key, *(f"{number:,.0f}" for number in numbers), f"{slowest:.1f}", f"{largest:,}"])
    total: Counter[str] = sum(counts.values(), Counter())
    rows.append(["all", "", f"{total.total():,}", *(f"{total[kind]:,}" for kind in OUTCOMES), "", "", ""])
    head = ["surface", "engine", "inputs", "accepted", "refused with a message", "findings"]
    head += ["seconds", "slowest input (s)", "largest input (MiB)"]
    return (
        "A finding is an exception that nobody handled, a message that is empty or longer than a line, a refused input "
        f"after which a file is not what it was, or an input that takes more than {SECONDS:.0f} seconds of processor "
        f"time, {MEBIBYTES} MiB of memory beyond what was used before, or {HANGS:.0f} seconds.\n\n" + table(head, rows)
    )


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
    engine: Callable[..., None] = run_hypothesis
    if args.engine == "atheris":
        engine = run_atheris if args.only else run_in_processes
    engine(Record(args.work), args)
    record = Record(args.work)
    write("fuzz", summary(record), record.batches, args.folder)
    sys.exit(any(one["findings"] for one in record.batches))


if __name__ == "__main__":
    main()
