"""What the published curves of PPO and MDPO on Procgen say, side by side. Nothing is trained.

python benchmarks/claims.py

Draws docs/_static/published.png. All numbers are computed from ``sb3_mdpo.lab.reference_curves()``: Procgen hard, 500
training levels, scores normalised by the constants of Procgen's paper, means over games of means over 3 runs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from report import argument_parser, table, write

from sb3_mdpo.lab import reference_curves

PICTURE = Path(__file__).parent.parent / "docs" / "_static" / "published.png"
# Source and method of a curve -> its short name, color and label
MDPO, PPO, OTHER = ("MDPO paper", "mdpo"), ("MDPO paper", "ppo"), ("Procgen authors", "ppo")
NAMES = {MDPO: "mdpo", PPO: "ppo", OTHER: "other_ppo"}
LABELS = {MDPO: "MDPO (MDPO paper)", PPO: "PPO (MDPO paper)", OTHER: "PPO (Procgen authors)"}
COLORS = {MDPO: "#1f5fbf", PPO: "#d9822b", OTHER: "#6b7280"}
# Of the figure in the later versions of the paper
EIGHT = ("bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot")
LAST = 0.05  # the end of a training, as in the paper
SCORES = ["training_normalized", "unseen_normalized"]


def hard_curves() -> pd.DataFrame:
    """Scores of the three curves, indexed by source, method, steps in total and game."""
    curves = reference_curves()
    curves = curves[(curves["num_levels"] == 500) & curves["method"].isin(["mdpo", "ppo"])]
    curves = curves.assign(game=curves["env_id"].str.split("-").str[1])
    return curves.set_index(["source", "method", "timesteps", "game"])[SCORES].sort_index()


def end(curve: pd.DataFrame) -> pd.DataFrame:
    """Mean over the last 5 % of one curve by game."""
    steps = curve.index.get_level_values("timesteps")
    return curve[steps >= (1 - LAST) * steps.max()].groupby("game").mean()


def summary_of(scores: pd.DataFrame) -> dict[str, float]:
    """Means over games."""
    training, unseen = scores[SCORES].mean()
    return {"training": training, "unseen": unseen, "gap": training - unseen}


def facts() -> dict[str, Any]:
    """All numbers of the page, unrounded."""
    curves = hard_curves()
    ends = {name: end(curves.loc[key]) for key, name in NAMES.items()}
    ends |= {f"{NAMES[key]}_at_5e7": curves.loc[(*key, 50_000_000)] for key in (MDPO, OTHER)}
    games = pd.DataFrame({name: ends[name]["unseen_normalized"] for name in NAMES.values()})
    eight = games.index.isin(EIGHT)
    return {
        "means": {name: summary_of(scores) for name, scores in ends.items()},
        "eight": {name: summary_of(scores[eight]) for name, scores in ends.items()},
        "other_eight": {name: summary_of(scores[~eight]) for name, scores in ends.items()},
        "games": games.T.to_dict(),
        "other_ppo_ahead": list(games.index[games["other_ppo"] >= games["mdpo"]]),
        "weakest_eight_of_ppo": sorted(games["ppo"].nsmallest(8).index),
        "unseen_above_training": [
            game for game, row in ends["mdpo"].iterrows() if row["unseen_normalized"] > row["training_normalized"]
        ],
        "same_training_score": same_training_score(curves, summary_of(ends["ppo"])["training"]),
    }


def same_training_score(curves: pd.DataFrame, training: float) -> dict[str, dict[str, float]]:
    """When each curve first has this mean score on training levels, and its score on unseen levels then."""
    found = {}
    for key in (MDPO, OTHER):
        means = curves.loc[key].groupby("timesteps").mean()
        place = int(np.argmax(means["training_normalized"] >= training))
        around = means.iloc[place - 1 : place + 1]
        steps, unseen = (
            float(np.interp(training, around["training_normalized"], values))
            for values in (around.index, around["unseen_normalized"])
        )
        found[NAMES[key]] = {"training": training, "unseen": unseen, "timesteps": steps}
    return found


def describe(found: dict[str, Any]) -> str:
    """The tables in Markdown."""
    budgets = {
        "ppo": (LABELS[PPO], "5e7", "5e7"),
        "mdpo": (LABELS[MDPO], "1e8", "5e7"),
        "mdpo_at_5e7": (LABELS[MDPO], "5e7", "2.5e7"),
        "other_ppo_at_5e7": (LABELS[OTHER], "5e7", "5e7"),
        "other_ppo": (LABELS[OTHER], "1e8", "1e8"),
    }
    means = [
        [*budget, *(f"{found['means'][name][column]:.3f}" for column in ("training", "unseen", "gap"))]
        for name, budget in budgets.items()
    ]
    halves = [
        [*budget[:2], *(f"{found[half][name]['unseen']:.3f}" for half in ("eight", "other_eight"))]
        for name, budget in budgets.items()
    ]
    games = [[game, *(f"{row[name]:.3f}" for name in NAMES.values())] for game, row in found["games"].items()]
    return "\n\n".join(
        (
            "Mean normalised score over 16 games, hard mode, 500 training levels:",
            table(["", "steps in total", "per policy", "training levels", "unseen levels", "gap"], means),
            "Unseen levels, over the 8 games of the paper's later figure and over the 8 others:",
            table(["", "steps in total", "the 8 games", "the 8 others"], halves),
            "Unseen levels at the end, after 1e8 steps in total (PPO of the MDPO paper: 5e7):",
            table(["", *LABELS.values()], games),
        )
    )


def draw(found: dict[str, Any], path: Path) -> None:
    """Learning curves over all games, and the end game by game."""
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    curve_axis, game_axis = figure.subplots(1, 2)
    curves = hard_curves()
    for key, color in COLORS.items():
        means = curves.loc[key].groupby("timesteps").mean()
        curve_axis.plot(means.index / 1e6, means["unseen_normalized"], color=color, label=LABELS[key])
        curve_axis.plot(means.index / 1e6, means["training_normalized"], "--", color=color, linewidth=1)
    curve_axis.plot([], [], "--", color="black", linewidth=1, label="on training levels")
    curve_axis.set(xlabel="environment steps in total, millions", ylabel="mean normalised score over 16 games")
    curve_axis.set_title("During training (solid: unseen levels)", fontsize="medium")
    curve_axis.legend(frameon=False, fontsize="small")
    games = pd.DataFrame(found["games"]).T
    for key, marker in ((PPO, "s"), (OTHER, "D"), (MDPO, "o")):
        game_axis.plot(games[NAMES[key]], games.index, marker, color=COLORS[key], label=LABELS[key])
    game_axis.axhline(len(EIGHT) - 0.5, color="black", linewidth=0.8, linestyle=":")
    game_axis.invert_yaxis()
    game_axis.set(xlabel="normalised score on unseen levels")
    game_axis.set_title("At the end (above the line: the 8 games published)", fontsize="medium")
    for axis in (curve_axis, game_axis):
        axis.grid(alpha=0.25)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the figure goes")
    args = parser.parse_args()
    found = facts()
    write("claims", describe(found), found, args.folder)
    draw(found, args.picture)


if __name__ == "__main__":
    main()
