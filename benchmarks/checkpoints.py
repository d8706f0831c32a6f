"""The cost of checkpoints: the share of a training's time spent in ``ResumableCheckpointCallback``.

python benchmarks/checkpoints.py

At the default frequency: snapshots in memory as often as they take one percent of the time, written at the start, as
often as that takes another percent but at most once a minute, and at the end. CartPole is the worst case: its rollouts
take next to no time. The durations of the callback's methods are added up.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch as th
from report import argument_parser, table, write
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.callbacks import ResumableCheckpointCallback
from sb3_mdpo.envs import ProcgenVecEnv


def cartpole(folder: Path) -> MDPO:
    """rl-zoo3's settings for PPO."""
    env = make_vec_env("CartPole-v1", n_envs=8, seed=0, monitor_dir=str(folder))
    return MDPO("MlpPolicy", env, n_steps=32, batch_size=128, n_epochs=20, seed=0)


def procgen(folder: Path) -> MDPO:
    """The settings of make demo: 64 environments and an IMPALA encoder of half the width."""
    env = VecMonitor(ProcgenVecEnv(64, "starpilot", distribution_mode="easy", seed=0), str(folder / "all"))
    encoder = {"features_extractor_kwargs": {"channels": (8, 16, 16)}}
    settings = {"n_steps": 64, "batch_size": 256, "n_epochs": 2, "policy_kwargs": encoder, "precision": "auto"}
    return MDPO("ImpalaCnnPolicy", VecNormalize(env, norm_obs=False), seed=0, **settings)


TASKS: dict[str, Callable[[Path], MDPO]] = {"CartPole": cartpole, "Procgen, 64 environments": procgen}


class Timed(ResumableCheckpointCallback):
    """
    :ivar seconds: total time in its methods
    :ivar snapshots: seconds of each snapshot
    :ivar writes: seconds of each written checkpoint
    """

    def __init__(self, save_path: Path) -> None:
        super().__init__(save_path, verbose=0)
        self.rollouts, self.seconds = 0, 0.0
        self.snapshots: list[float] = []
        self.writes: list[float] = []

    def _take_snapshot(self) -> None:
        start = time.perf_counter()
        super()._take_snapshot()
        self.snapshots.append(time.perf_counter() - start)

    def _write(self) -> None:
        start, before = time.perf_counter(), self._written
        super()._write()
        if self._written is not before:
            self.writes.append(time.perf_counter() - start)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def on_rollout_start(self) -> None:
        self.rollouts += 1
        with self._counted():
            super().on_rollout_start()

    def on_step(self) -> bool:
        with self._counted():
            return super().on_step()

    def on_training_end(self) -> None:
        with self._counted():
            super().on_training_end()


class StopAfter(BaseCallback):
    """
    :param seconds: how long to train
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def _on_training_start(self) -> None:
        self.end = time.perf_counter() + self.seconds

    def _on_step(self) -> bool:
        return time.perf_counter() < self.end


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=180, help="of each task (default: 180)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--threads", type=int, default=th.get_num_threads())
    args = parser.parse_args()
    th.set_num_threads(args.threads)

    rows, measured = [], []
    for name in args.tasks:
        with TemporaryDirectory() as folder:
            model = TASKS[name](Path(folder))
            callback = Timed(Path(folder) / "checkpoints")
            start = time.perf_counter()
            model.learn(10**9, [callback, StopAfter(args.seconds)])
            seconds = time.perf_counter() - start
            model.get_env().close()
            size = max(path.stat().st_size for path in (Path(folder) / "checkpoints").iterdir())
        rows.append(
            [
                name,
                f"{seconds / callback.rollouts:.3f} s",
                f"{len(callback.snapshots)}",
                f"{1000 * np.median(callback.snapshots):.1f} ms",
                f"{len(callback.writes)}",
                f"{1000 * np.median(callback.writes):.0f} ms",
                f"{size / 2**20:.1f} MiB",
                f"{100 * callback.seconds / seconds:.2f} %",
            ]
        )
        kept = {name: getattr(callback, name) for name in ("rollouts", "snapshots", "writes")}
        measured.append({"task": name, "seconds": seconds, "of the callback": callback.seconds} | kept)
    header = ["training", "an iteration", "snapshots", "each", "written", "each", "its size", "share of the time"]
    title = f"`ResumableCheckpointCallback` at its default frequency, in {args.seconds:.0f} s of training"
    write("checkpoints", f"{title}:\n\n{table(header, rows)}", measured, args.folder)


if __name__ == "__main__":
    main()
