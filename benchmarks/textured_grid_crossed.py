"""Which part of a level is overfitted: returns on seen and new looks, crossed with seen and new layouts.

python benchmarks/generalization.py textured_grid_looks                   # trains the policies
python benchmarks/textured_grid_crossed.py studies/textured_grid_looks    # a few seconds for each of them

For complete runs of studies of the textured grid. The seen layouts are those of num_layouts, or without it those of
the training levels; with all layouts in training there are no new ones. Every episode draws its look and its layout
independently.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from generalization import spread
from report import argument_parser, circumstances, receipt, table

from sb3_mdpo.lab.generalization.evaluation import evaluate_generalization
from sb3_mdpo.lab.generalization.results import ENSEMBLE
from sb3_mdpo.lab.generalization.trained import open_trained
from sb3_mdpo.lab.statistics.results import RUN, read_results
from sb3_mdpo.utils.atomic import replacing

NAME = "textured_grid_crossed"
TRAINING = ["num_levels", "num_layouts", "contrast", "method"]
CELLS = [(layouts, looks) for layouts in ("seen", "new") for looks in ("seen", "new")]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="folders of studies")
    parser.add_argument("--episodes", type=int, default=1024, help="per policy, layouts and looks (default: 1024)")
    parser.add_argument("--seed", type=int, default=1, help="of the evaluation; the study's own has 0 (default: 1)")
    args = parser.parse_args()

    rows = [row for study in args.studies for row in crossed(study, args.episodes, args.seed)]
    measured = pd.DataFrame(rows)
    text = f"{summary(measured)}\n\n{receipt(circumstances())} Raw numbers: `{NAME}.csv`.\n"
    for name, content in ((f"{NAME}.csv", measured.to_csv(index=False)), (f"{NAME}.md", text)):
        with replacing(args.folder / name) as file:
            file.write(content.encode())
    print(text)


def crossed(study: Path, episodes: int, seed: int) -> Iterator[dict[str, object]]:
    """:return: a row for each policy of each run, layouts and looks"""
    runs = read_results(study / "results.csv").drop_duplicates("run")
    for run in runs[RUN].to_dict("records"):
        trained = open_trained(study / run["run"], device="cpu")
        num_levels, num_layouts = run["num_levels"], trained.env_kwargs.get("num_layouts")
        contrast = trained.env_kwargs.get("contrast", 1)
        seen = num_levels if num_layouts is None else num_layouts
        for layouts, number in ({"seen": seen} | ({"new": 0} if seen else {})).items():
            result = evaluate_generalization(
                trained.model,
                run["env_id"],
                num_levels,
                episodes,
                seed,
                n_envs=64,
                env_kwargs={"num_layouts": number, "contrast": contrast},
            )
            for policy in result.policies:
                for looks, levels in (("seen", policy.training), ("new", policy.unseen)):
                    yield {
                        "study": study.name,
                        "num_levels": num_levels,
                        "num_layouts": "tied" if num_layouts is None else num_layouts or "all",
                        "contrast": contrast,
                        "method": run["method"],
                        "seed": run["seed"],
                        "policy": policy.policy,
                        "layouts": layouts,
                        "looks": looks,
                        "episodes": episodes,
                        "return": levels.mean,
                    }
        print(f"{study.name}/{run['run']}")


def summary(measured: pd.DataFrame) -> str:
    """:return: mean and standard deviation over seeds, each the mean of its members"""
    members = measured[measured["policy"] != ENSEMBLE]
    by_seed = members.groupby([*TRAINING, "layouts", "looks", "seed"], sort=False)["return"].mean()
    over_seeds = by_seed.groupby([*TRAINING, "layouts", "looks"], sort=False).agg(["mean", "std", "count"])
    header = ["looks", "layouts", "contrast", "method", "seeds", *(f"{one} layouts, {two} looks" for one, two in CELLS)]
    rows = []
    for key in dict.fromkeys(index[:4] for index in over_seeds.index):
        cells = over_seeds.loc[key]
        values = [spread(*cells.loc[cell, ["mean", "std"]]) if cell in cells.index else "" for cell in CELLS]
        rows.append([*map(str, key), str(cells["count"].max()), *values])
    title = (
        "Return after training, mean +/- standard deviation over seeds, each the mean of its policies, with "
        f"{measured['episodes'].iloc[0]} episodes per policy and cell"
    )
    return f"{title}:\n\n{table(header, rows)}"


if __name__ == "__main__":
    main()
