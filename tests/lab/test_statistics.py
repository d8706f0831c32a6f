"""Statistics of studies: by hand on tiny tables, and against rliable."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rliable import metrics
from scipy import stats

from sb3_mdpo.lab.statistics import aggregates
from sb3_mdpo.lab.statistics.aggregates import (
    aggregate_scores,
    iqm_per_step,
    performance_profiles,
    probability_of_improvement,
    sample_efficiency,
)
from sb3_mdpo.lab.statistics.differences import method_differences
from sb3_mdpo.lab.statistics.intervals import interval_text, percentile_size, wilson_interval
from sb3_mdpo.lab.statistics.results import check_results, read_results, task_name
from sb3_mdpo.lab.statistics.scores import (
    ScoreMatrices,
    common_seeds,
    final_scores,
    learning_curves,
    score_column,
    score_matrices,
    task_table,
)
from tests.support.results import BIGFISH, COINRUN, synthetic_results

MATRIX = np.array([[0.0, 0.8], [0.2, 1.6]])  # two seeds on two tasks


def matrices(**scores) -> ScoreMatrices:
    arrays = {method: np.asarray(matrix, dtype=float) for method, matrix in scores.items()}
    n_seeds, n_tasks = next(iter(arrays.values())).shape
    return ScoreMatrices(arrays, list(range(n_seeds)), [f"task {k}" for k in range(n_tasks)])


def members(results: pd.DataFrame) -> pd.DataFrame:
    scores = final_scores(results)
    return scores[scores["policies"] == "members"]


def test_final_score_is_the_mean_over_the_last_part_and_over_the_members():
    scores = final_scores(synthetic_results(seeds=[0, 2])).set_index(["env_id", "method", "seed", "policies"])
    # The last 5 % of 2000 steps, evaluated every 100, are the evaluations at 1900 and at 2000
    row = scores.loc[(BIGFISH, "mdpo", 2, "members")]
    assert row["evaluations"] == 2
    assert row["unseen_normalized"] == pytest.approx(0.6 * (0.95 + 1) / 2 + 0.02)
    assert row["unseen_return"] == pytest.approx(40 * row["unseen_normalized"])
    assert row["training_normalized"] - row["unseen_normalized"] == pytest.approx(0.2)
    assert row["gap"] == pytest.approx(8)
    assert row["kl"] == pytest.approx(0.0125)
    ensemble = scores.loc[(BIGFISH, "mdpo", 2, "ensemble")]
    assert ensemble["unseen_normalized"] == pytest.approx(row["unseen_normalized"] + 0.05)
    assert np.isnan(ensemble["kl"])
    assert (BIGFISH, "ppo", 2, "ensemble") not in scores.index
    rare = members(synthetic_results(methods=["ppo"], seeds=[1], env_ids=[BIGFISH], steps=[500, 1000]))
    assert rare[["evaluations", "unseen_normalized"]].to_numpy() == pytest.approx(np.array([[1, 0.31]]))


def test_aggregates_by_hand():
    table = aggregates.point_aggregates(matrices(mdpo=MATRIX)).set_index("metric")["estimate"]
    assert table["IQM"] == pytest.approx((0.2 + 0.8) / 2)  # without the lowest and the highest quarter
    assert table["median"] == pytest.approx((0.1 + 1.2) / 2)
    assert table["mean"] == pytest.approx(0.65)
    assert table["optimality gap"] == pytest.approx(1 - (0 + 0.8 + 0.2 + 1) / 4)


def test_one_task_has_no_aggregates_over_tasks():
    scores = matrices(mdpo=np.arange(6)[:, None], ppo=np.zeros((6, 1)))
    for table in (aggregates.point_aggregates(scores), aggregate_scores(scores, reps=50)):
        assert table["metric"].tolist() == ["IQM", "mean"] * 2
    assert table["estimate"].tolist() == pytest.approx([2.5, 2.5, 0, 0])


def test_intervals_hold_what_the_bootstrap_can_draw():
    scores = np.concatenate([MATRIX, MATRIX[:1]])
    table = aggregate_scores(matrices(mdpo=scores, ppo=scores / 2), reps=2000).set_index(["method", "metric"])
    assert (table["low"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["high"]).all()
    # Of two tasks with three seeds, percentiles that cover 95 % are nearly the ends: always the worse seeds, which are
    # (2/3)^6 of all draws, and always the better seed, which are (1/3)^6
    low, high = table.loc[("mdpo", "mean"), ["low", "high"]]
    assert low == pytest.approx(0.4)
    assert 0.8 <= high <= 0.9
    of_equal_runs = aggregate_scores(matrices(mdpo=[[0.3, 0.5]] * 3), reps=50)
    for end in ("low", "high"):
        assert of_equal_runs[end].to_numpy() == pytest.approx(of_equal_runs["estimate"].to_numpy())


def test_percentiles_are_those_that_cover_with_few_seeds():
    # By hand: Student's quantile with 4 degrees of freedom, wider by sqrt(5 / 4), as a normal distribution's quantile
    assert percentile_size(5, 1) == pytest.approx(1 - 2 * stats.norm.sf(np.sqrt(5 / 4) * 2.7764), abs=1e-5)
    assert percentile_size(1000, 3) == pytest.approx(0.95, abs=1e-3)


@pytest.mark.parametrize(("n_seeds", "n_tasks", "least"), [(5, 1, 0.89), (10, 1, 0.93), (3, 4, 0.89), (5, 4, 0.93)])
def test_bootstrap_intervals_cover(n_seeds, n_tasks, least):
    """About 95 %, or 91 % with the fewest seeds; percentiles at 2.5 and 97.5 % cover 91 % or 82 to 85 %."""
    rng = np.random.default_rng(0)
    means, size = [], percentile_size(n_seeds, n_tasks)
    for _ in range(1000):
        scores = rng.normal(size=(n_seeds, n_tasks))
        drawn = scores[rng.integers(n_seeds, size=(1000, n_seeds, n_tasks)), np.arange(n_tasks)].mean((1, 2))
        means.append(np.quantile(drawn, [(1 - size) / 2, (1 + size) / 2]))
    low, high = np.transpose(means)
    assert least <= np.mean((low <= 0) & (high >= 0)) <= 0.98


def test_too_few_seeds_give_no_interval():
    """A bootstrap cannot go beyond the worst and the best seed, which with three seeds hold the median in 75 %."""
    for n_seeds, n_tasks, enough in ((4, 1, False), (5, 1, True), (2, 6, False), (3, 2, True)):
        scores = matrices(mdpo=np.random.default_rng(0).normal(size=(n_seeds, n_tasks)))
        for table in (aggregate_scores(scores, reps=20), performance_profiles(scores, [0.5], reps=20)):
            assert table["low"].notna().all() == table["high"].notna().all() == enough
    results = synthetic_results(methods=["ppo"], env_ids=[BIGFISH], steps=[100])
    efficiency = sample_efficiency(results)
    assert efficiency["estimate"].tolist() == pytest.approx([0.31])
    assert efficiency[["low", "high"]].isna().all(axis=None)


def test_bootstrap_is_seeded_and_leaves_the_global_generator_alone():
    scores = matrices(mdpo=np.random.RandomState(0).rand(5, 3), ppo=np.random.RandomState(1).rand(5, 3))
    np.random.seed(3)
    first = aggregate_scores(scores, reps=50, seed=1)
    drawn = np.random.rand()
    np.random.seed(3)
    assert np.random.rand() == drawn
    pd.testing.assert_frame_equal(aggregate_scores(scores, reps=50, seed=1), first)
    assert not aggregate_scores(scores, reps=50, seed=2)["low"].equals(first["low"])
    profiles = performance_profiles(scores, reps=50, seed=1)
    pd.testing.assert_frame_equal(performance_profiles(scores, reps=50, seed=1), profiles)


def test_probability_of_improvement_by_hand():
    table = probability_of_improvement(matrices(mdpo=[[1, 2], [3, 4]], ppo=[[0, 2], [2, 5]]))
    # First task: 1 > 0, 1 < 2, 3 > 0, 3 > 2; second task: 2 = 2, 2 < 5, 4 > 2, 4 < 5
    assert table["probability"].tolist() == pytest.approx([(3 / 4 + 1.5 / 4) / 2])
    assert table[["method", "other"]].to_numpy().tolist() == [["mdpo", "ppo"]]
    assert table["n_seeds"].tolist() == [2]


def test_probability_of_improvement_has_an_interval_of_five_seeds_or_more():
    better, worse = np.arange(10, 15)[:, None], np.arange(5)[:, None]
    (separate,) = probability_of_improvement(matrices(mdpo=better, ppo=worse)).itertuples()
    # Wilson's interval of 5 successes in 5, by hand: 5 / (5 + 1.96^2)
    assert (separate.probability, separate.low, separate.high) == pytest.approx((1, 0.5655, 1), abs=1e-4)
    (of_two_tasks,) = probability_of_improvement(
        matrices(mdpo=np.repeat(better, 2, 1), ppo=np.repeat(worse, 2, 1))
    ).itertuples()
    assert of_two_tasks.low == pytest.approx(10 / (10 + 1.96**2), abs=1e-4)
    (few,) = probability_of_improvement(matrices(mdpo=better[:4], ppo=worse[:4])).itertuples()
    assert few.probability == 1
    assert np.isnan([few.low, few.high]).all()
    assert interval_text(few.low, few.high, few.n_seeds) == "4 seeds: too few for an interval"
    assert interval_text(separate.low, separate.high, separate.n_seeds) == "0.57 to 1.00"


def test_wilson_interval_by_hand():
    """Solves (estimate - p)^2 = 1.96^2 p (1 - p) / n."""
    for estimate, n in ((0.3, 5), (0.88, 25)):
        for end in wilson_interval(estimate, n):
            assert (estimate - end) ** 2 == pytest.approx(1.95996**2 * end * (1 - end) / n, rel=1e-4)
    assert wilson_interval(0.0, 5)[0] == 0


NORMAL = stats.norm()
DISTRIBUTIONS = {
    "equal": (NORMAL, NORMAL, 0.5),
    "a standard deviation apart": (stats.norm(1), NORMAL, stats.norm.cdf(1 / np.sqrt(2))),
    "two standard deviations apart": (stats.norm(2), NORMAL, stats.norm.cdf(2 / np.sqrt(2))),
    "one spreads three times as far": (stats.norm(0, 3), NORMAL, 0.5),
    "skewed": (stats.expon(0, 3), stats.expon(), 0.75),
    "with ties": (stats.binom(4, 0.5), stats.binom(4, 0.5), 0.5),
    "all or nothing": (stats.bernoulli(0.8), stats.bernoulli(0.4), 0.7),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(("n_seeds", "n_tasks"), [(5, 1), (10, 1), (5, 3)])
def test_interval_of_the_probability_of_improvement_covers(name, n_seeds, n_tasks):
    """At least 95 % of 1000 simulated studies, with a margin of 1.5 % for the simulation. The bootstrap: 63 to 95 %."""
    better, worse, truth = DISTRIBUTIONS[name]
    shape, rng = (1000, n_seeds, n_tasks), np.random.default_rng(0)
    pairs = zip(better.rvs(shape, random_state=rng), worse.rvs(shape, random_state=rng), strict=True)
    estimates = np.array([aggregates.improvement_probability(*pair) for pair in pairs])
    low, high = wilson_interval(estimates, n_seeds * n_tasks)
    assert np.mean((low <= truth) & (truth <= high)) >= 0.935


scores_of_runs = st.integers(1, 4).flatmap(
    lambda tasks: st.tuples(*(arrays(np.int64, (runs, tasks), elements=st.integers(0, 3)) for runs in (3, 4)))
)


@given(scores_of_runs)
def test_probability_of_improvement_is_that_of_rliable(pair):
    assert aggregates.improvement_probability(*pair) == pytest.approx(metrics.probability_of_improvement(*pair))


def test_performance_profiles_by_hand():
    table = performance_profiles(matrices(mdpo=[*MATRIX, [-1, 3]]), [0, 0.2, 0.5, 2], reps=100)
    assert table["fraction"].tolist() == pytest.approx([4 / 6, 3 / 6, 3 / 6, 1 / 6])
    assert (table["low"] <= table["fraction"]).all()
    assert (table["fraction"] <= table["high"]).all()


@given(arrays(np.float64, (4, 3, 5), elements=st.floats(-1, 1)))
def test_iqm_per_step_is_that_of_rliable(scores):
    expected = [metrics.aggregate_iqm(scores[..., step]) for step in range(5)]
    assert iqm_per_step(scores) == pytest.approx(expected)


def test_sample_efficiency_follows_training_at_common_steps():
    results = synthetic_results(methods=["mdpo", "ppo"], steps=[100, 200, 400])
    unfinished = results.query("not (method == 'ppo' and seed == 1 and timesteps == 400)")
    table = sample_efficiency(unfinished, reps=50).set_index(["method", "timesteps"])
    assert [index for index in table.index if index[0] == "ppo"] == [("ppo", 100), ("ppo", 200)]
    # Of seeds 0, 1, 2 on two equal tasks the middle half has the mean 0.01
    assert table["estimate"]["mdpo"].tolist() == pytest.approx([0.6 * part + 0.01 for part in (0.25, 0.5, 1)])
    row = table.loc[("mdpo", 400)]
    assert row["low"] < row["estimate"] < row["high"]
    assert row["timesteps_per_policy"] == 200


def test_learning_curves_are_means_and_deviations_over_seeds():
    results = synthetic_results(methods=["mdpo"], env_ids=[BIGFISH], steps=[100, 200])
    results = results[(results["seed"] != 2) | (results["timesteps"] == 100)]
    curves = learning_curves(results)
    rows = curves[curves["policies"] == "members"].set_index("timesteps")
    assert rows["n_seeds"].tolist() == [3, 2]
    assert rows["unseen_normalized"].tolist() == pytest.approx([0.31, 0.605])
    assert rows["unseen_normalized_std"].tolist() == pytest.approx([0.01, 0.01 / np.sqrt(2)])
    assert rows["training_return"][200] == pytest.approx(40 * 0.805)


def test_task_table_has_mean_and_deviation_over_seeds():
    table = task_table(final_scores(synthetic_results(seeds=[0, 4]), fraction=0))
    row = table.set_index(["env_id", "method", "policies"]).loc[(COINRUN, "independent", "members")]
    assert row["n_seeds"] == 2
    assert row["unseen_normalized"] == pytest.approx(0.42)
    assert row["unseen_normalized_std"] == pytest.approx(0.04 / np.sqrt(2))
    assert row["unseen_return"] == pytest.approx(5 + 5 * 0.42)
    single = task_table(final_scores(synthetic_results(seeds=[0])))
    assert single["unseen_return_std"].isna().all()


def test_task_table_has_students_interval_over_seeds():
    table = task_table(final_scores(synthetic_results(seeds=[0, 2, 7])))
    row = table.set_index(["env_id", "method", "policies"]).loc[(BIGFISH, "independent", "members")]
    # Scores 0.39 + 0.01 * seed; Student's quantile for two degrees of freedom is 4.3027
    scores = 0.39 + 0.01 * np.array([0, 2, 7])
    half = 4.3027 * np.std(scores, ddof=1) / np.sqrt(3)
    assert row["unseen_normalized"] == pytest.approx(np.mean(scores))
    ends = row[["unseen_normalized_low", "unseen_normalized_high"]].tolist()
    assert ends == pytest.approx([np.mean(scores) - half, np.mean(scores) + half], rel=1e-4)
    assert np.isnan(row["gap_low"])  # equal in all runs, which does not mean that it is known exactly
    single = task_table(final_scores(synthetic_results(seeds=[0])))
    assert single[["unseen_return_low", "unseen_return_high"]].isna().all(axis=None)


def test_task_table_shows_members_and_what_episodes_contribute():
    results = synthetic_results(methods=["mdpo", "ppo"], seeds=[0, 1], env_ids=[BIGFISH], steps=[950, 1000])
    of_last = results["timesteps"] == 1000
    results.loc[of_last & (results["policy"] == "policy 1"), "unseen_stderr"] = 0.3
    results.loc[~of_last, "unseen_stderr"] = 9.0
    results.loc[results["seed"].eq(1) & results["policy"].eq("policy 0"), "unseen_return"] -= 4
    scores = final_scores(results)
    of_run = scores.set_index(["method", "seed", "policies"])
    # Scores of the members are 0.2 apart, returns 8 or 12; that of two numbers is divided by sqrt(2)
    assert of_run["unseen_return_members_std"]["mdpo", 0, "members"] == pytest.approx(8 / np.sqrt(2))
    assert of_run["unseen_return_members_std"]["mdpo", 1, "members"] == pytest.approx(12 / np.sqrt(2))
    assert np.isnan(of_run["unseen_return_members_std"]["ppo", 0, "members"])
    assert np.isnan(of_run["unseen_return_members_std"]["mdpo", 0, "ensemble"])
    row = task_table(scores).set_index(["method", "policies"]).loc[("mdpo", "members")]
    assert row["unseen_return_members_std"] == pytest.approx(np.sqrt((8**2 + 12**2) / 2 / 2))
    assert row["gap_members_std"] == pytest.approx(0, abs=1e-9)
    assert row["unseen_stderr"] == pytest.approx(0.2)  # the members' mean in the last evaluation
    assert row["training_stderr"] == pytest.approx(0.1)


def test_differences_between_methods_are_paired_by_seed():
    results = synthetic_results(methods=["mdpo", "ppo"], seeds=[0, 1, 2, 3], env_ids=[BIGFISH], steps=[100])
    results = results.astype({"unseen_return": float})
    change = results["seed"].map({0: 0.0, 1: 1.0, 2: 3.0, 3: 8.0}).where(results["method"] == "ppo", 0)
    results["unseen_return"] += change
    results["gap"] -= change
    table = method_differences(final_scores(results[results["seed"] != 3]), "mdpo").set_index("measure")
    keys = ["method", "other", "policies", "n_seeds", "n_other", "paired"]
    assert table[keys].drop_duplicates().to_numpy().tolist() == [["mdpo", "ppo", "members", 3, 3, True]]
    # 40 * (0.6 - 0.3) = 12, less by 0, 1 and 3; their standard deviation is sqrt(7 / 3)
    half = 4.3027 * np.sqrt(7 / 3) / np.sqrt(3)
    row = table.loc["unseen_return", ["difference", "low", "high"]].tolist()
    assert row == pytest.approx([12 - 4 / 3, 12 - 4 / 3 - half, 12 - 4 / 3 + half], rel=1e-4)
    row = table.loc["gap", ["difference", "low", "high"]].tolist()
    assert row == pytest.approx([4 / 3, 4 / 3 - half, 4 / 3 + half], rel=1e-4)
    # On training levels the runs of every seed are equally far apart
    assert table.loc["training_return", "difference"] == pytest.approx(12)
    assert np.isnan(table.loc["training_return", "low"])


@pytest.mark.parametrize("seeds", [[0, 1, 2, 3], [7, 8, 9]])
def test_differences_of_runs_with_other_seeds_have_welchs_interval(seeds):
    rng = np.random.default_rng(0)
    ours, theirs = synthetic_results(["mdpo"], range(3), [BIGFISH]), synthetic_results(["ppo"], seeds, [BIGFISH])
    results = pd.concat([ours, theirs], ignore_index=True)
    results["unseen_return"] += rng.normal(size=len(results))
    scores = final_scores(results)
    row = method_differences(scores).set_index("measure").loc["unseen_return"]
    assert row[["n_seeds", "n_other", "paired"]].tolist() == [3, len(seeds), False]
    one, two = (
        scores.query(f"method == '{name}' and policies == 'members'")["unseen_return"] for name in ("mdpo", "ppo")
    )
    expected = stats.ttest_ind(one, two, equal_var=False).confidence_interval()
    assert row[["low", "high"]].tolist() == pytest.approx([expected.low, expected.high])
    assert row["difference"] == pytest.approx(one.mean() - two.mean())
    single = method_differences(scores[scores["seed"].isin([0, seeds[-1]])]).set_index("measure")
    assert single[["low", "high"]].isna().all(axis=None)


def test_differences_are_those_of_a_paired_t_test_on_every_task():
    results = synthetic_results(seeds=range(6))
    rng = np.random.default_rng(0)
    results["unseen_return"] += rng.normal(size=len(results))
    scores = final_scores(results)
    table = method_differences(scores, "independent")
    assert list(table["other"].unique()) == ["mdpo", "ppo"]
    assert len(table) == 3 * (2 + 1) * 2  # ppo has no ensemble
    for policies in ("members", "ensemble"):
        of_task = scores[(scores["env_id"] == COINRUN) & (scores["policies"] == policies)]
        wide = of_task.pivot(index="seed", columns="method", values="unseen_return")
        expected = stats.ttest_rel(wide["independent"], wide["mdpo"]).confidence_interval()
        (row,) = table[
            table["env_id"].eq(COINRUN)
            & table["policies"].eq(policies)
            & table["other"].eq("mdpo")
            & table["measure"].eq("unseen_return")
        ].itertuples()
        assert (row.low, row.high) == pytest.approx((expected.low, expected.high))


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        return importlib.import_module("generalization")


@pytest.mark.parametrize(("n_seeds", "interval"), [(3, "3 seeds: too few for an interval"), (5, "0.57 to 1.00")])
def test_summary_of_the_benchmark_shows_intervals_or_why_there_are_none(benchmark, n_seeds, interval):
    results = synthetic_results(["mdpo", "ppo"], range(n_seeds), [BIGFISH], steps=[1000])
    results["unseen_return"] += results["seed"].where(results["method"] == "ppo", 0)
    text = benchmark.summary(results)
    (of_ppo,) = (line for line in text.splitlines() if line.startswith("| ppo |"))
    (expected,) = method_differences(members(results)).query("measure == 'unseen_return'").itertuples()
    assert of_ppo == (
        f"| ppo | {12 - (n_seeds - 1) / 2:+.2f} ({expected.low:.2f} to {expected.high:.2f}) | +12.00 | +0.00 | "
        f"1.00 ({interval}) |"
    )
    assert "nan" not in text


def test_matrices_have_a_row_per_seed_and_a_column_per_task():
    result = score_matrices(members(synthetic_results(methods=["ppo"], seeds=[5, 7], steps=[100])))
    assert result.seeds == [5, 7]
    assert result.tasks == ["procgen-bigfish-hard-v0, 500 levels", "procgen-coinrun-hard-v0, 500 levels"]
    assert result.scores["ppo"] == pytest.approx(np.array([[0.35, 0.35], [0.37, 0.37]]))


@pytest.mark.parametrize(
    ("lacking", "message", "complete"),
    [
        ("seed == 1", r"ppo on procgen-coinrun-hard-v0, 500 levels lacks seed 1: finish these runs", [0, 2]),
        ("seed >= 0", "lacks seed 0, 1, 2", []),
    ],
)
def test_matrices_need_the_same_seeds_everywhere(lacking, message, complete):
    scores = members(synthetic_results().query(f"not (method == 'ppo' and env_id == @COINRUN and {lacking})"))
    with pytest.raises(ValueError, match=message):
        score_matrices(scores)
    common = common_seeds(scores)
    assert score_matrices(common).seeds == complete if complete else common.empty


def test_returns_take_the_place_of_missing_scores_on_one_environment_only():
    results = synthetic_results()
    assert [score_column(results), score_column(results, "training")] == ["unseen_normalized", "training_normalized"]
    results["unseen_normalized"] = np.nan
    assert score_column(results[results["env_id"] == BIGFISH]) == "unseen_return"
    with pytest.raises(ValueError, match="not normalised"):
        score_column(results)


def test_results_survive_the_file(tmp_path):
    results, path = synthetic_results(methods=["mdpo", "None"]), tmp_path / "results.csv"
    results.to_csv(path, index=False)
    read = read_results(path)
    assert set(read["method"]) == {"mdpo", "None"}
    pd.testing.assert_frame_equal(final_scores(read), final_scores(results), check_dtype=False)
    path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match="is not a table"):
        read_results(path)


MINIMAL = ["env_id", "num_levels", "method", "seed", "timesteps", "policy", "training_return", "unseen_return"]


def test_tables_of_others_need_eight_columns(tmp_path):
    results, path = synthetic_results(methods=["mdpo", "ppo"], steps=[100, 200]), tmp_path / "theirs.csv"
    results[MINIMAL].to_csv(path, index=False)
    read = read_results(path)
    for column in ("start_level", "timesteps_per_policy", "training_normalized", "unseen_normalized", "gap"):
        assert read[column].to_numpy() == pytest.approx(results[column].to_numpy()), column
    assert read["run"].tolist() == results["run"].tolist()
    unknown = ["study", "trained_images", "seconds", "training_success", "unseen_success", "kl"]
    assert read[unknown].isna().all(axis=None)
    measured = [
        "env_id",
        "method",
        "seed",
        "policies",
        "unseen_return",
        "unseen_normalized",
        "gap",
        "unseen_return_members_std",
    ]
    pd.testing.assert_frame_equal(final_scores(read)[measured], final_scores(results)[measured])
    steps = learning_curves(read)[["timesteps", "timesteps_per_policy", "unseen_return"]]
    pd.testing.assert_frame_equal(steps, learning_curves(results)[steps.columns], check_dtype=False)
    assert sample_efficiency(read, reps=20)["estimate"].notna().all()
    results[MINIMAL[1:]].to_csv(path, index=False)
    with pytest.raises(
        ValueError, match=r"theirs.csv has no column env_id: a table needs env_id, num_levels, method, "
    ):
        read_results(path)


def test_empty_cells_are_completed_and_others_kept(tmp_path):
    results, path = synthetic_results(methods=["mdpo"], seeds=[0], env_ids=[BIGFISH], steps=[100]), tmp_path / "r.csv"
    results = results.astype({"unseen_normalized": float, "gap": float})
    results.loc[0, ["unseen_normalized", "gap", "run", "timesteps_per_policy"]] = np.nan
    results.loc[1, "gap"] = 7.5
    results.to_csv(path, index=False)
    read = read_results(path)
    assert read["gap"].tolist() == pytest.approx([8, 7.5, 8])
    assert read["unseen_normalized"].tolist() == pytest.approx((read["unseen_return"] / 40).tolist())
    assert read["timesteps_per_policy"].tolist() == [50] * 3
    assert read["run"].nunique() == 1
    others = results.assign(env_id="CartPole-v1", unseen_normalized=np.nan, run=np.nan)
    others.to_csv(path, index=False)
    assert read_results(path)["unseen_normalized"].isna().all()  # nobody has defined scores of it


def test_tables_are_joined_and_methods_of_the_same_name_told_apart(tmp_path):
    paths = [tmp_path / "first" / "results.csv", tmp_path / "second" / "results.csv", tmp_path / "theirs.csv"]
    tables = [synthetic_results(methods, steps=[100]) for methods in (["mdpo", "ppo"], ["mdpo"], ["leep"])]
    tables[2] = tables[2][MINIMAL]
    for path, table in zip(paths, tables, strict=True):
        path.parent.mkdir(exist_ok=True)
        table.to_csv(path, index=False)
    joined = read_results(*paths)
    names = {"first": ["mdpo (first)", "ppo"], "second": ["mdpo (second)"], "theirs": ["leep"]}
    assert joined.groupby("source", sort=False)["method"].unique().map(list).to_dict() == {
        str(path): methods for path, methods in zip(paths, names.values(), strict=True)
    }
    assert len(score_matrices(members(joined)).scores) == 4
    again = tmp_path / "again" / "first" / "results.csv"
    again.parent.mkdir(parents=True)
    tables[0].to_csv(again, index=False)
    with pytest.raises(ValueError, match=r"both have mdpo, ppo and are both called first: rename one of them"):
        read_results(paths[0], again)
    assert set(read_results(paths[1], paths[2])["method"]) == {"mdpo", "leep"}


RESULTS = synthetic_results()
ONE_SEED = matrices(mdpo=MATRIX[:1], ppo=MATRIX[:1])


@pytest.mark.parametrize(
    ("message", "compute"),
    [
        (r"0\.05 is the last 5 %", lambda: final_scores(RESULTS, fraction=5)),
        ("take members, or ensembles", lambda: score_matrices(final_scores(RESULTS))),
        ("reps=0 must be at least 1", lambda: aggregate_scores(matrices(mdpo=MATRIX), reps=0)),
        (
            "no scores of independent: compare one of mdpo, ppo",
            lambda: probability_of_improvement(matrices(mdpo=MATRIX, ppo=MATRIX), "independent"),
        ),
        (
            "never evaluated at the same step",
            lambda: sample_efficiency(RESULTS.assign(timesteps=RESULTS["timesteps"] + RESULTS["seed"]), reps=50),
        ),
        (r"1 seed\(s\) give no interval", lambda: aggregate_scores(ONE_SEED)),
        (r"1 seed\(s\) give no interval", lambda: performance_profiles(ONE_SEED)),
        ("no scores of ppo_l2: compare one of mdpo,", lambda: method_differences(final_scores(RESULTS), "ppo_l2")),
        ("has no column unseen_return", lambda: check_results(RESULTS.drop(columns="unseen_return"))),
        ("has no rows", lambda: check_results(RESULTS[:0])),
        ("values that are not numbers in kl", lambda: check_results(RESULTS.assign(kl="x"))),
        ("values that are not numbers in unseen_stderr", lambda: check_results(RESULTS.assign(unseen_stderr="x"))),
        ("rows without seed", lambda: check_results(RESULTS.assign(seed=np.nan))),
        ("one seed is one run", lambda: check_results(pd.concat([RESULTS, RESULTS.assign(run="again")]))),
    ],
)
def test_what_has_no_answer_is_refused(message, compute):
    with pytest.raises(ValueError, match=message):
        compute()


def test_tasks_have_names():
    assert task_name("x", 1) == "x, 1 level"
    assert task_name("x", 0) == "x, all levels"
    assert task_name("x", 200, 10) == "x, 200 levels from 10"
