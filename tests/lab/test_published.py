"""Published curves: the data in the package, and how a study's number of steps is found in them."""

import math

import pytest

from sb3_mdpo.envs.procgen_options import GAMES
from sb3_mdpo.lab import normalized_score, reference_curves
from sb3_mdpo.lab.generalization.published import COLUMNS, PAPER, PROCGEN_AUTHORS, matching_curves, until, value_at
from tests.support.results import BIGFISH

MDPO = (PAPER, "mdpo")


def test_curves_are_complete_and_as_published():
    curves = reference_curves()
    assert list(curves) == COLUMNS
    assert set(curves["env_id"]) == {f"procgen-{game}-{mode}-v0" for game in GAMES for mode in ("easy", "hard")}
    sizes = curves.groupby(["source", "method", "num_levels"])["env_id"].agg(["nunique", "size"])
    assert {key: tuple(row) for key, row in zip(sizes.index, sizes.to_numpy(), strict=True)} == {
        (PAPER, "mdpo", 500): (16, 16 * 28),
        (PAPER, "ppo", 500): (16, 16 * 28),
        (PAPER, "ppo_l2", 500): (8, 8),
        (PAPER, "ppo_dropout", 500): (8, 8),
        (PROCGEN_AUTHORS, "ppo", 200): (16, 16 * 15),
        (PROCGEN_AUTHORS, "ppo", 500): (16, 16 * 15),
    }
    assert (
        curves.drop(columns=["training_return", "training_std", "training_normalized", "unseen_std"]).notna().all(None)
    )
    ends = curves[curves["env_id"] == BIGFISH].groupby(["source", "method"]).last()
    assert ends.loc[MDPO, ["timesteps", "timesteps_per_policy"]].tolist() == [100_000_000, 50_000_000]
    assert ends.loc[MDPO, ["training_return", "unseen_return"]].tolist() == [19.77, 16.14]
    assert ends.loc[(PROCGEN_AUTHORS, "ppo"), ["unseen_return", "unseen_std"]].tolist() == [1.53, 0.04]
    assert ends.loc[(PAPER, "ppo_dropout"), "unseen_return"] == 9.0
    returns = zip(curves["unseen_return"], curves["env_id"], strict=True)
    assert curves["unseen_normalized"].tolist() == [normalized_score(*each) for each in returns]


def test_every_call_returns_a_table_of_its_own():
    reference_curves()["unseen_return"] = 0.0
    assert reference_curves()["unseen_return"].max() > 1


def test_curves_are_those_of_the_same_game_mode_and_levels():
    assert set(matching_curves(BIGFISH, 500, 0)) == {
        *((PAPER, method) for method in ("mdpo", "ppo", "ppo_l2", "ppo_dropout")),
        (PROCGEN_AUTHORS, "ppo"),
    }
    assert matching_curves("procgen-bigfish-v0", 500, 0).keys() == matching_curves(BIGFISH, 500, 0).keys()
    (easy,) = matching_curves("procgen-bigfish-easy-v0", 200, 0).values()
    assert set(easy["env_id"]) == {"procgen-bigfish-easy-v0"}
    others = ("procgen-bigfish-easy-v0", 500, 0), ("TexturedGrid-v0", 200, 0), ("CartPole-v1", 0, 0)
    for task in ((BIGFISH, 200, 0), (BIGFISH, 500, 7), *others):
        assert matching_curves(*task) == {}


def test_a_curve_ends_at_the_number_of_steps_of_a_study():
    curve = matching_curves(BIGFISH, 500, 0)[MDPO]
    at = dict(zip(curve["timesteps_per_policy"], curve["unseen_return"], strict=True))
    cut = until(curve, 6_250_000)  # halfway between two published points
    assert cut["timesteps_per_policy"].tolist() == [500_000 * k for k in range(1, 11)] + [6_250_000]
    assert cut["timesteps"].iloc[-1] == 12_500_000
    assert cut["unseen_return"].iloc[-1] == pytest.approx((at[5_000_000] + at[7_500_000]) / 2)
    assert until(curve, 5_000_000)["timesteps_per_policy"].tolist() == [500_000 * k for k in range(1, 11)]
    assert until(curve, 499_999).empty  # nothing is published that early
    assert until(curve, 60_000_000).equals(curve)


def test_values_exist_only_for_steps_that_were_published():
    curve = matching_curves(BIGFISH, 500, 0)[MDPO]
    for steps, value in ((500_000, 0.11), (50_000_000, 16.14), (50_003_968, 16.14)):
        assert value_at(curve, "unseen_return", steps) == value
    for steps in (499_999, 60_000_000):
        assert math.isnan(value_at(curve, "unseen_return", steps))
