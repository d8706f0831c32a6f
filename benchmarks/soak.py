"""
Hours in one process: does memory grow, do handles pile up, does training slow down?

Trains on Procgen, the textured grid and CartPole in turns. In between, environments of every kind are made and closed,
models saved, loaded and evaluated. Now and then a new process trains the same in turns with it, so that other load on
the machine slows both down alike. Samples are written as they are taken.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from report import argument_parser, table, write
from scipy import stats
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from sb3_mdpo import MDPO
from sb3_mdpo.envs import make_levels

PROCGEN, GRID, CARTPOLE = "procgen-coinrun-easy-v0", "TexturedGrid-v0", "CartPole-v1"
N_ENVS, N_STEPS = 8, 64
CONFIDENCE = 0.95
PAIRS = 8  # rounds of each of the two processes that are compared


@dataclass(frozen=True)
class Sample:
    """
    :param seconds: since the start
    :param memory: resident memory in MB
    :param handles: open file handles
    :param threads: threads of the process
    :param steps_per_second: of processor time, in the trainings since the last sample, all environments together
    :param relative_speed: of the trainings, to those of a process that has just been started; None where it was not
        compared
    :param environments: how many have been made and closed
    """

    seconds: float
    memory: float
    handles: int
    threads: int
    steps_per_second: float
    relative_speed: float | None
    environments: int


@dataclass(frozen=True)
class Limits:
    """
    :param memory: growth in MB per hour that is a leak
    :param slowdown: percent per hour that trainings may get slower, compared with those of a new process
    :param handles: how many more there may be at the end
    """

    memory: float = 20.0
    slowdown: float = 5.0
    handles: int = 2


class Slope(NamedTuple):
    """Change per hour, with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} ({CONFIDENCE:.0%} interval {self.low:+.2f} to {self.high:+.2f})"


def slope(seconds: Sequence[float], values: Sequence[float]) -> Slope:
    """:return: of the least-squares line; Student's interval, as if the deviations from it were independent"""
    line = stats.linregress(np.asarray(seconds) / 3600, values)
    margin = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 2) * line.stderr
    return Slope(line.slope, line.slope - margin, line.slope + margin)


def settled(samples: Sequence[Sample], warm_up: float) -> list[Sample]:
    """:return: the samples after the warm-up, in seconds"""
    kept = [sample for sample in samples if sample.seconds >= warm_up]
    if len(compared(kept)) < 3:
        raise ValueError(
            f"{len(compared(kept))} comparisons after the warm-up of {warm_up:g} s make no line: run it longer."
        )
    return kept


def compared(samples: Sequence[Sample]) -> list[Sample]:
    """:return: those with a comparison"""
    return [sample for sample in samples if sample.relative_speed is not None]


def slopes(samples: Sequence[Sample]) -> tuple[Slope, Slope]:
    """:return: of the memory in MB, and of the relative speed in percent"""
    memory = slope([sample.seconds for sample in samples], [sample.memory for sample in samples])
    some = compared(samples)
    return memory, slope([one.seconds for one in some], [100 * one.relative_speed for one in some])  # type: ignore[operator]


def verdict(samples: Sequence[Sample], limits: Limits) -> list[str]:
    """:return: what is wrong, nothing where the whole interval of a slope is not beyond its limit"""
    memory, speed = slopes(samples)
    more = samples[-1].handles - samples[0].handles
    problems = []
    if memory.low > limits.memory:
        problems.append(f"memory grows by {memory} MB per hour")
    if speed.high < -limits.slowdown:
        problems.append(f"trainings change their speed by {speed} % per hour, compared with those of a new process")
    if more > limits.handles:
        problems.append(f"{more} more file handles are open at the end")
    return problems


def make_environments(env_id: str, seed: int) -> VecEnv:
    if env_id == CARTPOLE:
        return make_vec_env(env_id, N_ENVS, seed)
    return make_levels(env_id, N_ENVS, seed, num_levels=50)


def make_model(env_id: str, n_steps: int) -> MDPO:
    policy = "MlpPolicy" if env_id == CARTPOLE else "StridedCnnPolicy"
    env = make_environments(env_id, 0)
    return MDPO(policy, env, n_steps=n_steps, batch_size=2 * n_steps, n_epochs=1, seed=0, device="cpu")


def recreate(seed: int, times: int, processes: bool) -> int:
    """:return: how many environments were made, used and closed; processes take seconds to start"""
    for k in range(times):
        for env_id in (PROCGEN, GRID, CARTPOLE):
            with closing(make_environments(env_id, seed + k)) as vec_env:
                vec_env.reset()
                vec_env.step(np.zeros(N_ENVS, dtype=int))
        with closing(gym.make(PROCGEN)) as env:
            env.reset(seed=seed + k)
            env.step(0)
    if processes:
        with closing(make_vec_env(CARTPOLE, 2, seed, vec_env_cls=SubprocVecEnv)) as vec_env:
            vec_env.reset()
            vec_env.step(np.zeros(2, dtype=int))
    return 4 * times + processes


def save_load_evaluate(model: MDPO, env_id: str, folder: Path, seed: int) -> None:
    model.save(folder / "model.zip")
    with closing(make_environments(env_id, seed)) as env:
        loaded = MDPO.load(folder / "model.zip", env=env, device="cpu")
        # Few steps: procgen's episodes may be a thousand steps long
        if env_id == PROCGEN:
            observations = env.reset()
            for _ in range(N_STEPS):
                observations, *_ = env.step(loaded.predict(observations)[0])
        else:
            evaluate_policy(loaded, env, N_ENVS)


def make_models(n_steps: int) -> dict[str, MDPO]:
    return {env_id: make_model(env_id, n_steps) for env_id in (PROCGEN, GRID, CARTPOLE)}


def train(model: MDPO) -> float:
    """:return: seconds of processor time: by the clock, the machine may do other things besides"""
    start = time.process_time()
    model.learn(2 * model.n_steps * N_ENVS, log_interval=None, reset_num_timesteps=False)
    return time.process_time() - start


def train_when_told(n_steps: int) -> None:
    """In the new process: a round of trainings for every line of input, whose seconds are printed."""
    models = make_models(n_steps)
    while True:
        print(sum(map(train, models.values())), flush=True)
        if not sys.stdin.readline():
            return


def relative_speed(models: dict[str, MDPO]) -> float:
    """:return: of these models, to those of a process that has just been started"""
    seconds: list[tuple[float, float]] = []
    command = [sys.executable, "-W", "ignore", __file__, "--new-process", str(N_STEPS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # of a first round, which warms up
        for _ in range(PAIRS):
            own = sum(map(train, models.values()))
            print(file=process.stdin, flush=True)
            seconds.append((own, float(process.stdout.readline())))
        process.stdin.close()
    own_seconds, new_seconds = np.sum(seconds, axis=0)
    return round(float(new_seconds / own_seconds), 4)


def take_sample(start: float, steps_per_second: float, relative: float | None, environments: int) -> Sample:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Sample(
        round(time.monotonic() - start, 2),
        int(status["VmRSS"].split()[0]) / 1024,
        len(os.listdir("/proc/self/fd")),
        int(status["Threads"]),
        round(steps_per_second, 2),
        relative,
        environments,
    )


def soak(minutes: float, every: float, comparing: float, times: int, path: Path) -> list[Sample]:
    """
    :param minutes: how long
    :param every: seconds between samples, at least; one is taken at the end of a round
    :param comparing: seconds between comparisons with a new process, at least; the first one is made at the start
    :param times: environments of each kind that are made and closed in every round
    :param path: CSV file that samples are appended to as they are taken
    :return: the samples
    """
    models = make_models(N_STEPS)
    samples: list[Sample] = []
    start = last = time.monotonic()
    last_comparison = -np.inf
    seconds, steps, environments, rounds = 0.0, 0, 0, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file, tempfile.TemporaryDirectory() as folder:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        while time.monotonic() - start < 60 * minutes:
            for env_id, model in models.items():
                seconds, steps = seconds + train(model), steps + 2 * N_STEPS * N_ENVS
                save_load_evaluate(model, env_id, Path(folder), rounds)
            rounds += 1
            environments += recreate(rounds, times, processes=rounds % 10 == 0) + len(models)
            if time.monotonic() - last >= every:
                relative = None
                if time.monotonic() - last_comparison >= comparing:
                    relative, last_comparison = relative_speed(models), time.monotonic()
                samples.append(take_sample(start, steps / seconds, relative, environments))
                writer.writerow(asdict(samples[-1]))
                file.flush()
                last, seconds, steps = time.monotonic(), 0.0, 0
    for model in models.values():
        model.get_env().close()  # type: ignore[union-attr]
    return samples


def summary(samples: Sequence[Sample], kept: Sequence[Sample], problems: Sequence[str]) -> str:
    """:return: Markdown"""
    memory, speed = slopes(kept)
    first, last = kept[0], samples[-1]
    speeds = [f"{100 * sample.relative_speed:.1f} %" for sample in compared(kept)]  # type: ignore[operator]
    rows = [
        ["resident memory (MB)", f"{first.memory:.0f}", f"{last.memory:.0f}", str(memory)],
        [
            "steps per second of processor time",
            f"{first.steps_per_second:.0f}",
            f"{last.steps_per_second:.0f}",
            "",
        ],
        ["the same, compared with a new process", speeds[0], speeds[-1], f"{speed} %"],
        ["file handles", str(first.handles), str(last.handles), ""],
        ["threads", str(first.threads), str(last.threads), ""],
    ]
    said = "; ".join(problems) or "nothing grows beyond its limit"
    return (
        f"{last.seconds / 60:.0f} minutes, {last.environments:,} environments made and closed, "
        f"{len(kept)} samples and {len(speeds)} comparisons after the warm-up: {said}.\n\n"
        + table(["", "after the warm-up", "at the end", "change per hour"], rows)
        + "\n\nSlopes are of least-squares lines; their intervals take samples for independent, which makes them "
        "narrower than they should be."
    )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=None, help="minutes left out (default: a tenth)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples (default: 5)")
    parser.add_argument("--comparing", type=float, default=60.0, help="seconds between comparisons (default: 60)")
    parser.add_argument("--new-process", metavar="N_STEPS", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=5, help="environments of each kind per round (default: 5)")
    args = parser.parse_args()
    if args.new_process:
        train_when_told(args.new_process)
        return
    samples = soak(args.minutes, args.every, args.comparing, args.times, args.folder / "soak.csv")
    warm_up = args.minutes / 10 if args.warm_up is None else args.warm_up
    kept = settled(samples, 60 * warm_up)
    problems = verdict(kept, Limits())
    write("soak", summary(samples, kept, problems), [asdict(sample) for sample in samples], args.folder)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
