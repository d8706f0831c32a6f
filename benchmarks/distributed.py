"""Data-parallel training: how it scales from one process to two, and what communication would cost on many.

python benchmarks/distributed.py

Strong scaling: the same environments and minibatches, divided among the processes. Weak scaling: as many for each
process. Every process has one torch thread and steps its Procgen environments in it. Communication is the time in
torch.distributed, waiting for the slower process included. What is said of more processes is computed, not measured.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch as th
from report import argument_parser, table, write
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.common.ranks import Ranks
from sb3_mdpo.distributed import process_group
from sb3_mdpo.distributed.group import TorchRanks
from sb3_mdpo.envs import ProcgenVecEnv

EPOCHS = 3
MODES = ("strong", "weak")
# Assumed: bandwidth of the slowest link in the ring, in bytes per second, and latency of a message over it, in seconds
NETWORKS = {
    "NVLink and 200 Gbit/s InfiniBand": {"bandwidth": 20e9, "latency": 10e-6},
    "10 Gbit/s Ethernet": {"bandwidth": 1e9, "latency": 50e-6},
}
MANY = (8, 16, 32, 64, 128, 256, 512, 1024)
ASSUMED_SPEEDUP = 50  # of a GPU over one core of the machine that was measured
ASSUMPTIONS = """Computed under these assumptions, none of which was measured here:

- Weak scaling: every process has the environments and samples of the measured process, and computes as long.
- Gradients: a flat ring. Each of N processes sends 2 (N - 1) / N times the buffer, in 2 (N - 1) messages that follow
  each other; all links are as slow as the slowest.
- Everything else (statistics of minibatches and environments, the flag at the end of every environment step) is a few
  dozen bytes: a tree with 2 ceil(log2 N) messages that follow each other, whose bytes take no time.
- Nothing overlaps with computation, and nobody waits for a slower process, which in reality grows with N.
- A process computes as fast as the measured core, or as a GPU that is {speedup} times as fast.
- {networks}
"""


class Meter:
    """Seconds, messages and bytes in torch.distributed."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def install(self) -> None:
        waiting_for, summed = TorchRanks._waiting_for, TorchRanks._sum

        @contextmanager
        def timed(ranks: TorchRanks, what: str) -> Iterator[None]:
            start = time.perf_counter()
            with waiting_for(ranks, what):
                yield
            self.seconds += time.perf_counter() - start

        def counted(ranks: TorchRanks, tensor: th.Tensor, what: str) -> None:
            self.calls[what] += 1
            self.bytes[what] += tensor.nbytes
            summed(ranks, tensor, what)

        TorchRanks._waiting_for = timed  # type: ignore[method-assign, assignment]
        TorchRanks._sum = counted  # type: ignore[method-assign]


def work(ranks: Ranks, mode: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Iterations of a training, the first of which warms up."""
    meter = Meter()
    meter.install()
    total = args.envs * (ranks.size if mode == "weak" else 1)
    batch_size = args.batch_size * (ranks.size if mode == "weak" else 1)
    engine = ProcgenVecEnv(ranks.share(total, "envs"), "bigfish", num_levels=500, seed=ranks.rank, num_threads=0)
    model = MDPO(
        "ImpalaCnnPolicy",
        VecNormalize(VecMonitor(engine), norm_obs=False),
        n_steps=args.steps,
        batch_size=batch_size,
        n_epochs=EPOCHS,
        policy_kwargs={"features_extractor_kwargs": {"channels": tuple(args.channels)}},
        seed=0,
        device="cpu",
    )
    model.set_logger(Logger(None, []))
    measured = []
    for _ in range(args.iterations + 1):
        meter.seconds, before = 0.0, (meter.calls.copy(), meter.bytes.copy())
        start = time.perf_counter()
        model.learn(args.steps * total, log_interval=None, reset_num_timesteps=False)
        measured.append(
            {
                "seconds": time.perf_counter() - start,
                "communication": meter.seconds,
                "calls": dict(meter.calls - before[0]),
                "bytes": dict(meter.bytes - before[1]),
                "parameters": sum(one.numel() for one in model.policy.parameters()),
                "env_steps": args.steps * total,
            }
        )
    return measured[1:]


def start(mode: str, n_processes: int, arguments: list[str]) -> list[dict[str, Any]]:
    """The iterations of the first of so many new processes."""
    launcher = (
        [] if n_processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    )
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, *launcher, __file__, *arguments, "--worker", mode, "--result", str(result)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        measured: list[dict[str, Any]] = json.loads(result.read_text())
    return measured


def ring(size: int, n_bytes: float, bandwidth: float, latency: float) -> float:
    """:return: seconds of a ring all-reduce"""
    return 2 * (size - 1) / size * n_bytes / bandwidth + 2 * (size - 1) * latency


def tree(size: int, latency: float) -> float:
    """:return: seconds of an all-reduce of a few bytes"""
    return 2 * math.ceil(math.log2(size)) * latency


def simulate(iteration: dict[str, Any], compute: float) -> list[list[str]]:
    """:return: what communication costs on many processes, a row for each network and number"""
    gradients = "the gradients"
    messages = iteration["calls"][gradients]
    size_of_one = iteration["bytes"][gradients] / messages
    small = sum(count for what, count in iteration["calls"].items() if what != gradients)
    rows = []
    for name, network in NETWORKS.items():
        for size in MANY:
            per_rank = 2 * (size - 1) / size * size_of_one * messages
            seconds = messages * ring(size, size_of_one, **network) + small * tree(size, network["latency"])
            shares = [seconds / (seconds + part) for part in (compute, compute / ASSUMED_SPEEDUP)]
            rows.append(
                [
                    name,
                    f"{size:,}",
                    f"{per_rank / 1e6:.1f}",
                    f"{per_rank * size / 1e9:.2f}",
                    f"{1e3 * seconds:.1f}",
                    *(f"{100 * share:.1f} %" for share in shares),
                ]
            )
    return rows


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="how often every number of processes is started")
    parser.add_argument("--iterations", type=int, default=3, help="rollouts and updates in each of them")
    parser.add_argument("--envs", type=int, default=32, help="environments, of both policies together")
    parser.add_argument("--steps", type=int, default=64, help="steps per rollout")
    parser.add_argument("--batch-size", type=int, default=256, help="samples per policy")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32, 32], help="of the IMPALA encoder")
    parser.add_argument("--worker", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    th.set_num_threads(1)
    if args.worker:
        with process_group() as ranks:
            measured = work(ranks, args.worker, args)
            if ranks.rank == 0:
                args.result.write_text(json.dumps(measured))
        return

    series: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _ in range(args.repeats):  # in turn, as the machine may change its speed
        for mode in MODES:
            for n_processes in (1, 2):
                series.setdefault((mode, n_processes), []).extend(start(mode, n_processes, sys.argv[1:]))
    write(
        "distributed",
        summary_of(series, args),
        [{"run": run, "iterations": own} for run, own in series.items()],
        args.folder,
    )


def summary_of(series: dict[tuple[str, int], list[dict[str, Any]]], args: argparse.Namespace) -> str:
    """:return: the tables"""

    def median(run: tuple[str, int], key: str) -> float:
        return statistics.median(iteration[key] for iteration in series[run])

    rows = []
    for mode, n_processes in series:
        seconds, alone = median((mode, n_processes), "seconds"), median((mode, 1), "seconds")
        efficiency = alone / seconds / (n_processes if mode == "strong" else 1)
        iteration = series[mode, n_processes][0]
        speed = iteration["env_steps"] / seconds
        share = median((mode, n_processes), "communication") / seconds
        all_reduces, sent = sum(iteration["calls"].values()), sum(iteration["bytes"].values())
        cells = (f"{seconds:.2f}", f"{speed:.0f}", f"{100 * efficiency:.0f} %", f"{100 * share:.1f} %")
        rows.append([mode, str(n_processes), *cells, f"{all_reduces:,}", f"{sent / 1e6:.1f}"])
    header = [
        "scaling",
        "processes",
        "s per iteration",
        "environment steps/s",
        "efficiency",
        "communication",
        "all-reduces",
        "MB reduced",
    ]
    iteration = series["weak", 2][0]
    compute = median(("weak", 1), "seconds")
    many = ["network", "processes", "MB sent per process", "GB sent by all", "communication ms", "share on such a core"]
    many.append("share on such a GPU")
    networks = "; ".join(
        f"{name}: {network['bandwidth'] / 1e9:g} GB/s and {1e6 * network['latency']:g} µs per message"
        for name, network in NETWORKS.items()
    )
    return (
        f"Rollout and update of MDPO with two policies on Procgen: {args.envs} environments, {args.steps} steps, "
        f"batch_size {args.batch_size}, {EPOCHS} epochs, {iteration['parameters']:,} parameters, median of "
        f"{args.repeats * args.iterations} iterations. With two processes in weak scaling twice the environments and "
        "batch_size. MB reduced: what each process gives into all-reduces in an iteration.\n\n"
        f"{table(header, rows)}\n\n"
        f"{ASSUMPTIONS.format(speedup=ASSUMED_SPEEDUP, networks=networks)}\n"
        f"Per iteration, as above in weak scaling:\n\n{table(many, simulate(iteration, compute))}"
    )


if __name__ == "__main__":
    main()
