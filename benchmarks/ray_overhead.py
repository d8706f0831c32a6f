"""What Ray adds to each run of a study: the same runs, one at a time, without Ray and on Ray on this machine.

python benchmarks/ray_overhead.py

Wall time from the call of an engine to its last run, less Ray's own start, per run. In a run on Ray are: the start of a
worker, the task, the copies of its checkpoints, its folder's way home. The trainings are short, so that their own
noise is little; both engines take turns. Training in a worker has the worker's niceness, here that of everything else.
"""

import os
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import ray
from report import argument_parser, table, write

from sb3_mdpo.lab.study.config import Resources, Study, parse_study
from sb3_mdpo.lab.study.folder import StudyFolder
from sb3_mdpo.lab.study.ray_engine import HERE, on_ray
from sb3_mdpo.lab.study.runner import Engine, run_all
from sb3_mdpo.lab.study.runs import plan_runs

STUDY = {
    "environments": ["TexturedGrid-v0"],
    "num_levels": [400],
    "methods": ["ppo"],
    "seeds": [0],
    "hyperparams": {"n_envs": 16, "n_steps": 64, "batch_size": 256},
    "evaluation": {"episodes": 8},
    "device": "cpu",
}


def seconds_of(engine: Engine, study: Study) -> float:
    """:return: seconds until all runs of a study are complete"""
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        with closing(engine(study, plan_runs(study), StudyFolder(Path(folder) / "study"))) as outcomes:
            ended = [outcome for _, outcome in outcomes]
            seconds = time.perf_counter() - start
        assert set(ended) == {"done"}, ended
        return seconds


def start_of_ray() -> float:
    """:return: seconds until Ray runs on this machine"""
    start = time.perf_counter()
    ray.init(HERE, include_dashboard=False)
    seconds = time.perf_counter() - start
    ray.shutdown()
    return seconds


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--runs", type=int, default=4, help="in each study (default: 4)")
    parser.add_argument("--timesteps", type=int, default=8192, help="of mdpo in each run (default: 8192)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    os.environ.update(RAY_worker_niceness="0")

    study = parse_study(STUDY | {"seeds": list(range(args.runs)), "timesteps": args.timesteps}, "overhead")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    one_at_a_time = study.model_copy(update={"resources": Resources(cpus=float(cores))})
    measured: dict[str, list[float]] = {"without Ray": [], "on Ray": [], "start of Ray": []}
    for _ in range(args.repeats):
        measured["without Ray"].append(seconds_of(run_all, study))
        measured["start of Ray"].append(start_of_ray())
        measured["on Ray"].append(seconds_of(on_ray, one_at_a_time))
    start = float(np.median(measured["start of Ray"]))
    alone = np.array(measured["without Ray"]) / args.runs
    on_it = (np.array(measured["on Ray"]) - start) / args.runs
    extra = on_it - alone  # of neighbours in time
    rows = [
        ["a run without Ray", f"{np.median(alone):.2f} s", f"{alone.min():.2f} to {alone.max():.2f} s"],
        ["a run on Ray", f"{np.median(on_it):.2f} s", f"{on_it.min():.2f} to {on_it.max():.2f} s"],
        ["Ray's overhead per run", f"{np.median(extra):.2f} s", f"{extra.min():.2f} to {extra.max():.2f} s"],
        ["start of Ray, once", f"{start:.2f} s", ""],
    ]
    title = f"{args.runs} runs of {args.timesteps // 2} steps, one at a time; {args.repeats} interleaved repeats"
    write("ray_overhead", f"{title}:\n\n{table(['', 'median', 'range'], rows)}", measured, args.folder)


if __name__ == "__main__":
    main()
