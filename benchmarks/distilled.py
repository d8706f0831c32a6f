"""The members of a study's runs, distilled into one policy each after training, on training and unseen levels.

python benchmarks/distilled.py studies/jumper_easy --method independent

Writes ``<study>_<method>_distilled.csv``, with the columns of a study's ``results.csv`` and one row per run. It is
written after every run; started again, it goes on with the runs that are missing. The steps in all are those of the
training and of the distillation.
"""

from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
from report import argument_parser

from sb3_mdpo.lab import distill_ensemble, evaluate_generalization, open_trained, read_results
from sb3_mdpo.lab.generalization.results import COLUMNS, write_table
from sb3_mdpo.lab.study.folder import RESULTS, RUN_COLUMNS

SUFFIX = "_distilled"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("study", type=Path, help="folder of a study that was run")
    parser.add_argument("--method", default="independent", help="whose members are distilled (default: independent)")
    parser.add_argument("--timesteps", type=int, default=262_144, help="of each distillation (default: 262144)")
    parser.add_argument("--episodes", type=int, default=2048, help="per set of levels (default: 2048)")
    parser.add_argument("--n-envs", type=int, default=64, help="environments (default: 64)")
    parser.add_argument("--device", default="cpu", help="PyTorch device (default: cpu)")
    args = parser.parse_args()
    last = read_results(args.study / RESULTS).sort_values("timesteps").drop_duplicates("run", keep="last")
    chosen = last[last["method"] == args.method]
    if chosen.empty:
        parser.error(f"{args.study} has no runs of {args.method}: use one of {', '.join(sorted(set(last['method'])))}")
    path = args.folder / f"{args.study.resolve().name}_{args.method}{SUFFIX}.csv"
    rows: list[dict[str, Any]] = read_results(path).to_dict("records") if path.is_file() else []
    done = {row["run"] for row in rows}
    for _, run in chosen.sort_values("seed").iterrows():
        if f"{run['run']}{SUFFIX}" not in done:
            rows.append(distilled(run, args))
            write_table(path, rows, (*RUN_COLUMNS, *COLUMNS))
    print(path)


def distilled(run: "pd.Series[Any]", args: Any) -> dict[str, Any]:
    """The row of a run, whose last evaluation is given."""
    trained = open_trained(args.study / run["run"], device=args.device)
    start = perf_counter()
    with closing(trained.make_env(args.n_envs, int(run["seed"]))) as env:
        ppo = distill_ensemble(trained.model, env, args.timesteps, int(run["seed"]))
    seconds = perf_counter() - start
    result = evaluate_generalization(
        ppo,
        trained.env_id,
        int(run["num_levels"]),
        args.episodes,
        start_level=int(run["start_level"]),
        n_envs=args.n_envs,
        make_env=trained.make_env,
    )
    (policy,) = result.policies
    rounds = -(-args.timesteps // (trained.model.n_steps * args.n_envs))
    steps = rounds * trained.model.n_steps * args.n_envs
    about = {column: run[column] for column in RUN_COLUMNS}
    about |= {name: f"{run[name]}{SUFFIX}" for name in ("method", "run")}
    timesteps = int(run["timesteps"]) + steps
    budget = {
        "timesteps": timesteps,
        "timesteps_per_policy": timesteps,
        "trained_images": int(run["trained_images"]) + steps * trained.model.n_epochs,
        "seconds": float(run["seconds"]) + seconds,
    }
    return about | budget | policy.row()


if __name__ == "__main__":
    main()
