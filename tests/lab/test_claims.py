"""docs/published.md: every number on it follows from the curves in the package."""

import csv
import importlib
import json
import re
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "sb3_mdpo" / "lab" / "generalization" / "data"
RESULTS = ROOT / "benchmarks" / "results"
WRITTEN = "\n\n`python benchmarks/claims.py"


@pytest.fixture(scope="module")
def claims():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("claims")


@pytest.fixture(scope="module")
def facts(claims):
    return claims.facts()


def rows_of(name: str) -> list[dict[str, str]]:
    lines = [line for line in (DATA / name).read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def scores(rows: list[dict[str, str]], column: str) -> dict[str, list[float]]:
    """Scores by game, without the package."""
    ranges = {row["game"]: row for row in rows_of("procgen_score_ranges.csv")}
    found: dict[str, list[float]] = {}
    for row in rows:
        low, high = (float(ranges[row["game"]][f"hard_{end}"]) for end in ("min", "max"))
        found.setdefault(row["game"], []).append((float(row[column]) - low) / (high - low))
    return found


def test_means_are_those_of_the_files(facts):
    paper = rows_of("paper_hard_500.csv")
    ends = [row for row in paper if int(row["steps_per_policy"]) in (47_500_000, 50_000_000)]
    middle = [row for row in paper if int(row["steps_per_policy"]) == 25_000_000]
    other = [row for row in rows_of("procgen_authors_ppo.csv") if row["mode"] == "hard"]
    others = {steps: [row for row in other if int(row["timesteps"]) == steps] for steps in (50_000_000, 100_000_000)}
    for levels in ("training", "unseen"):
        expected = {
            "ppo": scores(ends, f"ppo_{levels}"),
            "mdpo": scores(ends, f"mdpo_{levels}"),
            "mdpo_at_5e7": scores(middle, f"mdpo_{levels}"),
            "other_ppo_at_5e7": scores(others[50_000_000], f"{levels}_return"),
            "other_ppo": scores(others[100_000_000], f"{levels}_return"),
        }
        assert set(facts["means"]) == set(expected)
        for name, of_games in expected.items():
            games = {game: mean(values) for game, values in of_games.items()}
            assert len(games) == 16
            for group, chosen in (
                ("means", sorted(games)),
                ("eight", sorted(games)[:8]),
                ("other_eight", sorted(games)[8:]),
            ):
                assert facts[group][name][levels] == pytest.approx(mean(games[game] for game in chosen)), (group, name)
            if levels == "unseen" and name in ("ppo", "mdpo", "other_ppo"):
                assert {game: row[name] for game, row in facts["games"].items()} == pytest.approx(games)


def test_same_training_score_lies_between_two_points_of_the_curve(facts, claims):
    means = claims.hard_curves().groupby(["source", "method", "timesteps"]).mean()
    for key in (claims.MDPO, claims.OTHER):
        at, curve = facts["same_training_score"][claims.NAMES[key]], means.loc[key]
        before = curve[curve.index <= at["timesteps"]].iloc[-1]
        after = curve[curve.index > at["timesteps"]].iloc[0]
        assert before["training_normalized"] <= at["training"] <= after["training_normalized"]
        assert before["unseen_normalized"] <= at["unseen"] <= after["unseen_normalized"]
        assert at["training"] == facts["means"]["ppo"]["training"]


def rounded(found):
    """The same with numbers of nine digits: the last ones differ between machines."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    return float(f"{found:.9g}") if isinstance(found, float) else found


def test_committed_results_are_those_of_the_data(facts, claims):
    assert rounded(json.loads((RESULTS / "claims.json").read_text())["measured"]) == rounded(facts)
    assert (RESULTS / "claims.md").read_text().split(WRITTEN)[0] == claims.describe(facts)


def statements(facts) -> list[str]:
    """What the page says in numbers, in its order."""
    means, games, eight, others = (facts[key] for key in ("means", "games", "eight", "other_eight"))
    ppo, mdpo, half, other, other_half = (
        means[name] for name in ("ppo", "mdpo", "mdpo_at_5e7", "other_ppo", "other_ppo_at_5e7")
    )
    assert ppo["unseen"] < other_half["unseen"] < other["unseen"] < mdpo["unseen"]
    assert ppo["gap"] < mdpo["gap"] < other["gap"]
    same = facts["same_training_score"]["mdpo"]
    ahead = [
        f"{game} ({games[game]['other_ppo']:.3f} against {games[game]['mdpo']:.3f})"
        for game in facts["other_ppo_ahead"]
    ]
    advantages = [group["mdpo"]["unseen"] - group["ppo"]["unseen"] for group in (eight, others)]
    return [
        f"it has {mdpo['unseen']:.3f} on unseen levels, and PPO {ppo['unseen']:.3f}; on training levels "
        f"{mdpo['training']:.3f} and {ppo['training']:.3f}.",
        f"from {ppo['gap']:.3f} with PPO to {mdpo['gap']:.3f} with MDPO",
        f"({same['training']:.3f}, after {same['timesteps'] / 2e7:.1f}e7 steps per policy), "
        f"it has {same['unseen']:.3f} on unseen levels: {same['unseen'] - ppo['unseen']:.3f} more",
        f"out of a difference of {mdpo['unseen'] - ppo['unseen']:.3f} at the end",
        f"MDPO has {half['unseen']:.3f} on unseen levels",
        f"with 1e8 steps, has {other['unseen']:.3f} on unseen levels",
        f"Its curve on training levels ({other['training']:.3f})",
        f"with a gap of {other['gap']:.3f}",
        f"In {len(ahead)} of {len(games)} games",
        f"{', '.join(ahead[:-1])} and {ahead[-1]}",
        f"weaker there ({eight['ppo']['unseen']:.3f} on unseen levels) than in the 8 others "
        f"({others['ppo']['unseen']:.3f})",
        f"{eight['other_ppo_at_5e7']['unseen']:.3f} and {others['other_ppo_at_5e7']['unseen']:.3f} after the same 5e7",
        f"is {advantages[0]:.3f} in these 8 games, and {advantages[1]:.3f} in the others",
        f"has {games['maze']['ppo']:.3f}, and that of Procgen's authors {games['maze']['other_ppo']:.3f}",
        f"than on training levels in {' and '.join(facts['unseen_above_training'])},",
    ]


def test_every_number_on_the_page_follows_from_the_data(facts):
    page = " ".join((ROOT / "docs" / "published.md").read_text().split("## The data")[0].split())
    for statement in statements(facts):
        assert page.count(statement) == 1, statement
        page = page.replace(statement, "")
    assert re.findall(r"\d+\.\d+", page) == []


def test_the_eight_games_are_the_first_of_the_alphabet(facts, claims):
    assert list(claims.EIGHT) == sorted(facts["games"])[:8]


def test_picture_and_results_are_written(claims, facts, tmp_path):
    claims.draw(facts, tmp_path / "published.png")
    assert (tmp_path / "published.png").read_bytes().startswith(b"\x89PNG")
