"""Environment steps per second of TexturedGridVecEnv on one core, with random actions.

python benchmarks/textured_grid.py

The environment runs in a single thread. Seconds are the process's own on the processor, which other programs on the
machine disturb less than the wall time that is written beside them.
"""

import statistics
import time

import numpy as np
from report import argument_parser, table, write
from stable_baselines3.common.vec_env import VecMonitor

from sb3_mdpo.envs import TexturedGridVecEnv


def seconds(num_envs: int, monitor: bool, steps: int) -> tuple[float, float]:
    """:return: processor and wall time of ``steps`` steps of every environment, resets included"""
    env = TexturedGridVecEnv(num_envs, num_levels=400, seed=0)
    if monitor:
        env = VecMonitor(env)
    env.reset()
    actions = np.random.default_rng(0).integers(0, 4, (steps, num_envs))
    wall, processor = time.perf_counter(), time.process_time()
    for action in actions:
        env.step(action)
    return time.process_time() - processor, time.perf_counter() - wall


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--steps", type=int, default=2000, help="steps of every environment")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    measured = []
    for num_envs in args.num_envs:
        for monitor in (False, True):
            seconds(num_envs, monitor, args.steps // 10)  # warms up
            times = [seconds(num_envs, monitor, args.steps) for _ in range(args.repeats)]
            processor, wall = ([time_[k] for time_ in times] for k in range(2))
            measured.append(
                {
                    "num_envs": num_envs,
                    "VecMonitor": monitor,
                    "steps": args.steps,
                    "processor_seconds": processor,
                    "wall_seconds": wall,
                }
            )
    rows = []
    for row in measured:
        steps = row["steps"] * row["num_envs"]
        per_second = [steps / statistics.median(row[key]) for key in ("processor_seconds", "wall_seconds")]
        rows.append(
            [str(row["num_envs"]), "yes" if row["VecMonitor"] else "no", *(f"{value:,.0f}" for value in per_second)]
        )
    header = ["environments", "in `VecMonitor`", "steps per second of processor time", "steps per second of wall time"]
    title = (
        f"Environment steps per second with random actions on one core, median of {args.repeats} times {args.steps} "
        "steps of every environment; processor time is the process's own, wall time depends on the machine's other load"
    )
    write("textured_grid_speed", f"{title}:\n\n{table(header, rows)}", measured, args.folder)


if __name__ == "__main__":
    main()
