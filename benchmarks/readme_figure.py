"""
Draw README's picture from the committed table of the study of the textured grid.

python benchmarks/readme_figure.py
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "benchmarks" / "results" / "textured_grid.csv"
PICTURE = ROOT / "docs" / "_static" / "textured_grid.png"
LEVELS = 120
METHODS = {
    "mdpo": ("MDPO, two policies", "#1f5fbf", "-"),
    "ppo_2x_data": ("PPO, the data of both", "#d9822b", "--"),
    "twins": ("two policies without the KL", "#6b7280", ":"),
}


def main() -> None:
    table = pd.read_csv(TABLE)
    table = table[(table["num_levels"] == LEVELS) & table["policy"].str.startswith("policy")]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for column, title, axis in zip(
        ("training_return", "unseen_return"), (f"{LEVELS} training levels", "unseen levels"), axes, strict=True
    ):
        for method, (label, color, line) in METHODS.items():
            # PPO with twice the data takes twice the steps per policy: all methods are drawn by steps in all
            runs = table[table["method"] == method].groupby(["timesteps", "seed"])[column].mean().unstack()
            mean = runs.mean(axis=1)
            half = runs.sem(axis=1) * stats.t.ppf(0.975, runs.shape[1] - 1)
            axis.plot(runs.index, mean, line, color=color, label=label)
            axis.fill_between(runs.index, mean - half, mean + half, color=color, alpha=0.15, linewidth=0)
        axis.set(title=title, xlabel="environment steps in all", ylim=(0, 1))
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("levels solved")
    axes[1].legend(loc="upper left", frameon=False)
    axes[0].xaxis.set_major_formatter(lambda steps, _: f"{steps / 1000:.0f}k")
    seeds, episodes = table["seed"].nunique(), table["episodes"].max()
    sample = f"n = {seeds} seeds, {episodes} episodes per policy in an evaluation"
    figure.supxlabel(f"mean and 95 % interval (Student's) over {sample}", fontsize="small", color="#5f6368")
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
