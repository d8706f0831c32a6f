"""
The last step of ``make demo``: print two tables, and draw the learning curves.

python examples/demo_report.py demo/logs/mdpo/procgen-starpilot-easy-v0_1 demo/studies/textured_grid -o demo/picture.png
"""

import argparse
import os
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LABELS = {"mdpo": "MDPO", "independent": "without the KL"}


def members(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of single policies, without the ensemble."""
    return table[table["policy"].str.startswith("policy")]


def show_starpilot(table: pd.DataFrame, axis: Axes) -> None:
    first, last = (table[table["timesteps"] == steps] for steps in (table["timesteps"].min(), table["timesteps"].max()))
    print(f"\nstarpilot, easy: mean return and standard error of {last['episodes'].iloc[0]} episodes")
    print(f"{'':18}{'200 training levels':>22}{'unseen levels':>22}")
    for name, row in [("untrained", first.iloc[0]), *((row["policy"], row) for _, row in last.iterrows())]:
        cells = (
            f"{row[f'{levels}_return']:.2f} +/- {row[f'{levels}_stderr']:.2f}" for levels in ("training", "unseen")
        )
        print(f"{name:18}" + "".join(f"{cell:>22}" for cell in cells))
    mean = table.groupby("timesteps")[["training_return", "unseen_return"]].mean()
    axis.plot(mean.index, mean["training_return"], "o--", color="#6b7280", label="200 training levels")
    axis.plot(mean.index, mean["unseen_return"], "o-", color="#1f5fbf", label="unseen levels")
    axis.set(title="Procgen starpilot, easy: MDPO", ylabel="return, mean of both policies")


def show_grid(table: pd.DataFrame, axis: Axes) -> None:
    print("\ntextured grid: share of levels solved, mean of both policies")
    print(f"{'':18}{'120 training levels':>22}{'unseen levels':>22}")
    for method, label in LABELS.items():
        mean = table[table["method"] == method].groupby("timesteps")[["training_return", "unseen_return"]].mean()
        print(f"{label:18}{mean['training_return'].iloc[-1]:>22.2f}{mean['unseen_return'].iloc[-1]:>22.2f}")
        axis.plot(mean.index, mean["unseen_return"], "o-" if method == "mdpo" else "o:", label=label)
    axis.set(title="Textured grid: unseen levels", ylabel="share of levels solved", ylim=(0, 1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, help="run folder of rl_zoo3 train with generalization.csv")
    parser.add_argument("study", type=Path, help="folder of the study with results.csv")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo/picture.png"))
    args = parser.parse_args()
    tables = [args.run / "generalization.csv", args.study / "results.csv"]
    for path in tables:
        if not path.is_file():
            parser.error(f"{path} does not exist: run make demo")

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for path, show, axis in zip(tables, (show_starpilot, show_grid), axes, strict=True):
        show(members(pd.read_csv(path)), axis)
        axis.set_xlabel("environment steps of both policies")
        axis.grid(alpha=0.3)
        axis.legend()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = args.output.with_suffix(".part.png")
    figure.savefig(unfinished, dpi=120)
    os.replace(unfinished, args.output)
    print(f"\nPicture: {args.output}")


if __name__ == "__main__":
    main()
