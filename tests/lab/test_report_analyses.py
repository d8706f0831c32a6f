"""Robustness and representation in reports: what is pooled, intervals over runs, several runs analysed together."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sb3_mdpo.cli.main import main
from sb3_mdpo.lab import state_sampling
from sb3_mdpo.lab.report.data import ReportData, read_report_data
from sb3_mdpo.lab.report.measured import mean_intervals, over_runs, paired_differences, spearman
from sb3_mdpo.lab.report.sections.analyses import robustness
from sb3_mdpo.lab.report.sections.representation import representation
from tests.support.results import BIGFISH, synthetic_features, synthetic_results, synthetic_robustness
from tests.support.workspace import GRID, RUN, valid_files

LEVELS, MEMBERS = {"mdpo": 0.1, "ppo": 0.3}, ["policy 0", "policy 1"]
TASK = f"{BIGFISH}, 500 levels"


@pytest.fixture
def study(tmp_path) -> Path:
    """Three runs of two methods, measured at the end of training, after 200 steps."""
    results = synthetic_results(list(LEVELS), env_ids=[BIGFISH], steps=[100, 200])
    results.to_csv(tmp_path / "results.csv", index=False)
    for run in results["run"].unique():
        (tmp_path / run / BIGFISH).mkdir(parents=True)
        (tmp_path / run / BIGFISH / "args.yml").write_text("algo: mdpo")
    for method in LEVELS:
        for seed in range(3):
            measured(tmp_path, method, seed)
    return tmp_path


def run_of(study: Path, method: str, seed: int) -> Path:
    return study / f"{BIGFISH}_500_{method}_{seed}"


def measured(study: Path, method: str, seed: int, timesteps: int | None = 200, **settings) -> None:
    kl = LEVELS[method] + 0.02 * seed
    document = synthetic_robustness(MEMBERS, kl, timesteps, **settings)
    (run_of(study, method, seed) / "robustness.json").write_text(json.dumps(document))


def read(study: Path) -> ReportData:
    return read_report_data(study, 10)


def row_of(cells: pd.DataFrame, **wanted: str) -> pd.Series:
    for column, value in wanted.items():
        cells = cells[cells[column] == value]
    (row,) = (row for _, row in cells.iterrows())
    return row


def test_runs_are_pooled_with_intervals_over_seeds(study):
    """Total variations of the runs' members: 0.05 and 0.055, and 0.01 more for each seed."""
    content = robustness(read(study))
    row = row_of(content["cells"], method="mdpo", perturbation="random convolution")
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert row["runs"] == 3
    assert row["TV"].parts == pytest.approx({"": 0.0625, " low": 0.0625 - half, " high": 0.0625 + half})
    assert row["TV / another state"].value == pytest.approx(0.125)
    assert row["entropy"].value == 1
    assert row["max TV"].value == pytest.approx(3 * 0.075)  # of the second member with the third seed
    assert row_of(content["cells"], method="mdpo", perturbation="none")["entropy"].value == 1.25
    assert row_of(content["cells"], method="mdpo", perturbation="another state")["TV"].value == 0.5
    chart = content["charts"][f"brightness, {TASK}"].data[0]
    assert chart.y == pytest.approx((0.1125, 0.2125))
    assert chart.error_y.array == pytest.approx([half, half])
    assert content["notes"] == []
    assert content["caption"].startswith("n = 3 seeds. ")
    # mdpo minus ppo, of each seed 0.1 less
    difference = row_of(content["differences"], perturbation="random convolution", **{"mdpo minus": "ppo"})
    assert difference["TV"].parts == pytest.approx({"": -0.1})  # all equal: nothing is known of their deviation
    assert difference["seeds"] == 3


def test_measurements_of_other_settings_or_steps_are_left_out_with_what_to_type(study):
    measured(study, "ppo", 0, states=4, draws=2)
    measured(study, "ppo", 1, timesteps=100)
    measured(study, "mdpo", 2, timesteps=None)
    content = robustness(read(study))
    assert set(content["notes"]) == {
        f"Left out: ppo, seed 1, {TASK}, its model of step 100 instead of 200.",
        f"Left out: ppo, seed 0, {TASK}, with draws 2 instead of 8, states 4 instead of 64.",
        f"Left out: mdpo, seed 2, {TASK}, with unknown settings, of an earlier version.",
        f"To measure these: sb3-mdpo robustness {study} --states 64 --draws 8 --episodes 0 --seed 0",
    }
    assert row_of(content["cells"], method="mdpo", perturbation="random convolution")["runs"] == 2
    assert row_of(content["cells"], method="ppo", perturbation="random convolution")["runs"] == 1
    assert content["caption"].startswith("n = 1 to 2 seeds. ")


def test_measurements_in_the_same_states_and_in_others_are_not_pooled(study):
    measured(study, "ppo", 0, players=["ab" * 32, "cd" * 32])
    (note, _) = robustness(read(study))["notes"]
    assert "with players abababab, cdcdcdcd instead of the policy itself." in note


def test_measurements_of_earlier_versions_are_shown_as_unknown(study):
    for method in LEVELS:
        for seed in range(3):
            measured(study, method, seed, timesteps=None)
    content = robustness(read(study))
    assert "6 files of an earlier version do not say which model they measure" in content["notes"][0]
    assert content["notes"][1] == f"To measure these: sb3-mdpo robustness {study}"
    assert content["about"] == "Settings: unknown."
    row = row_of(content["cells"], method="mdpo", perturbation="random convolution")
    assert row["TV"].value == pytest.approx(0.0625)
    assert "entropy" not in content["cells"]


def test_runs_that_were_not_measured_are_named(study):
    (run_of(study, "ppo", 1) / "robustness.json").unlink()
    assert robustness(read(study))["notes"][0] == f"Not measured: ppo, seed 1, {TASK}."
    document = synthetic_features(MEMBERS, 0.1, 200, [str(run_of(study, "mdpo", seed)) for seed in range(3)])
    document["settings"]["env_id"] = BIGFISH
    analysed(study, document)
    (note,) = representation(read(study))["notes"]
    named = "; ".join(f"ppo, seed {seed}, {TASK}" for seed in range(3))
    assert note == f"Not analysed: {named}. To add them: sb3-mdpo features {study}"


def test_nothing_but_notes_if_everything_is_left_out(study):
    for method in LEVELS:
        for seed in range(3):
            measured(study, method, seed, timesteps=100)
    content = robustness(read(study))
    assert list(content) == ["notes"]
    assert len(content["notes"]) == 7
    analysed(study, synthetic_features(MEMBERS, 0.1, 100, [str(run_of(study, "mdpo", 0))]))
    assert list(representation(read(study))) == ["notes"]


def test_gaps_are_drawn_against_robustness(study):
    """Gaps grow with the seed and with the total variation."""
    results = pd.read_csv(study / "results.csv")
    results["gap"] = results["method"].map({"mdpo": 1.0, "ppo": 5.0}) + results["seed"]
    results.to_csv(study / "results.csv", index=False)
    content = robustness(read(study))
    rho, low, high = spearman(range(6), range(6))
    cells = content["correlations"]
    assert cells["perturbation"].tolist() == ["all", "random convolution", "brightness", "no background"]
    assert cells["runs"].tolist() == [6] * 4
    for cell in cells["rank correlation"]:
        assert cell.parts == pytest.approx({"": rho, " low": low, " high": high})
    ((title, chart),) = content["gap_charts"].items()
    assert title == f"{TASK}: \u03c1 {cells['rank correlation'][0]}, 6 runs"
    mdpo, ppo = chart.data
    # Brightness has 0.1 more, averaged over its strengths
    assert (mdpo.x, mdpo.y) == (pytest.approx([0.0525 + 0.1 / 3 + 0.01 * seed for seed in range(3)]), (1, 2, 3))
    assert (ppo.name, ppo.y) == ("ppo", (5, 6, 7))


def test_rank_correlation_by_hand():
    """Squared differences of ranks 1 1 1 1 0: rho = 1 - 6 * 4 / 120."""
    rho, low, high = spearman([10, 20, 30, 40, 50], [2, 1, 4, 3, 5])
    half = 1.959964 * math.sqrt((1 + 0.8**2 / 2) / 2)
    assert rho == pytest.approx(0.8)
    assert (low, high) == pytest.approx((math.tanh(math.atanh(0.8) - half), math.tanh(math.atanh(0.8) + half)))
    rho, low, high = spearman([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
    half = 1.959964 * math.sqrt((1 + 0.9**2 / 2) / 2)
    assert (rho, low, high) == pytest.approx((-1, -1, math.tanh(math.atanh(-0.9) + half)))
    assert np.isnan(spearman([1, 1, 1, 1], [1, 2, 3, 4])).all()
    with pytest.raises(ValueError, match="3 pairs give no interval"):
        spearman([1, 2, 3], [1, 2, 3])


@pytest.mark.parametrize(("n", "correlation"), [(6, 0.0), (20, 0.0), (20, 0.7)])
def test_intervals_of_rank_correlations_cover(n, correlation):
    """Of normal variables, Spearman's rho is 6 / pi asin(r / 2)."""
    rng, truth, covered = np.random.default_rng(0), 6 / math.pi * math.asin(correlation / 2), []
    for _ in range(500):
        x, noise = rng.normal(size=(2, n))
        _, low, high = spearman(x, correlation * x + math.sqrt(1 - correlation**2) * noise)
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.92


def test_means_and_differences_by_hand():
    """Runs of a: 2 and 4, of b: 1 and 5; member means first. Differences of seeds: 1 and -1."""
    rows = [("a", 0, 1.0), ("a", 0, 3.0), ("a", 1, 4.0), ("b", 0, 1.0), ("b", 1, 5.0), ("b", 2, math.nan)]
    of_runs = over_runs(pd.DataFrame(rows, columns=["method", "seed", "x"]).assign(task="t"), ["task", "method"], ["x"])
    means = mean_intervals(of_runs, ["task", "method"], "x").set_index("method")
    half = stats.t.ppf(0.975, 1)
    assert means.loc["a", ["estimate", "low", "high", "n"]].tolist() == pytest.approx([3, 3 - half, 3 + half, 2])
    assert means.loc["b", ["estimate", "n"]].tolist() == [3, 2]
    (difference,) = paired_differences(of_runs, ["task"], "x", "a").itertuples()
    assert (difference.other, difference.estimate, difference.n) == ("b", 0, 2)
    assert (difference.low, difference.high) == pytest.approx((-half, half))
    one = mean_intervals(of_runs[of_runs["seed"] == 0], ["task", "method"], "x")
    assert one["low"].isna().all()
    assert paired_differences(of_runs, ["task"], "x", "c").empty


def analysed(study: Path, document: dict) -> None:
    folder = study / "features" / BIGFISH
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.json").write_text(json.dumps(document))


def test_runs_analysed_together_are_compared_on_the_same_observations(study):
    """Distance ratios of the models in their order 0.105, 0.205 and so on; CKA 0.875 in a run and 0.25 beyond it."""
    runs = [run_of(study, method, seed) for method in LEVELS for seed in range(3)]
    analysed(study, synthetic_features(MEMBERS, 0.1, 200, [str(run) for run in runs]))
    # Their own files are of other observations
    (runs[0] / "features.json").write_text(json.dumps(synthetic_features(MEMBERS, 9.0, 200)))
    content = representation(read(study))
    assert content["about"] == [f"All runs on the same 48 observations of unseen levels ({BIGFISH})."]
    row = row_of(content["numbers"], method="ppo")
    half = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert row["runs"] == 3
    assert row["distance ratio"].parts == pytest.approx({"": 0.505, " low": 0.505 - half, " high": 0.505 + half})
    within = row_of(content["cka"], method="mdpo", between="members of a run")
    assert (within["CKA"].value, within["runs or pairs"]) == (0.875, 3)
    between = row_of(content["cka"], method="mdpo", between="runs of the method")
    assert (between["CKA"].value, between["runs or pairs"]) == (0.25, 12)  # 3 pairs of runs, 4 of their members
    assert row_of(content["differences"], **{"mdpo minus": "ppo"})["distance ratio"].value == pytest.approx(-0.3)
    assert len(content["tsne"]) == 4  # two policies of one run of each method
    assert content["notes"] == []


def test_models_of_other_steps_are_left_out_of_an_analysis(study):
    runs = [run_of(study, "mdpo", seed) for seed in range(2)]
    document = synthetic_features(MEMBERS, 0.1, 200, [str(run) for run in runs])
    document["settings"]["models"][1]["timesteps"] = 100
    analysed(study, document)
    content = representation(read(study))
    assert content["notes"] == [f"Left out: mdpo, seed 1, {TASK}, its model of step 100 instead of 200."]
    assert row_of(content["numbers"], method="mdpo")["runs"] == 1
    assert len(content["cka"]) == 1


def test_an_analysis_that_does_not_say_of_what_is_refused(study):
    analysed(study, synthetic_features(MEMBERS, 0.1, None))
    with pytest.raises(ValueError, match="does not say which models it is about"):
        representation(read(study))


@pytest.fixture
def trained_study(tmp_path, monkeypatch) -> Path:
    """Two runs of a model that was trained for 32 steps."""
    monkeypatch.setattr(state_sampling, "SPACING", 4)
    monkeypatch.setattr(state_sampling, "MIN_STEPS", 4)
    results = synthetic_results(list(LEVELS), seeds=[0], env_ids=[BIGFISH], steps=[32])
    results.replace({"env_id": {BIGFISH: GRID}}).to_csv(tmp_path / "results.csv", index=False)
    for run in results["run"].unique():
        for name, content in valid_files().items():
            path = tmp_path / run / Path(name).relative_to(RUN) if name.startswith(f"{RUN}/") else None
            if path is not None and path.suffix != ".json":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    return tmp_path


def test_a_study_is_measured_in_the_same_states_once(trained_study, capsys):
    command = ["robustness", str(trained_study), "--states", "4", "--draws", "2", "--device", "cpu"]
    main(command)
    files = sorted(trained_study.glob("*/robustness.json"))
    documents = [json.loads(file.read_text()) for file in files]
    assert [len(document["settings"]["players"]) for document in documents] == [2, 2]
    assert documents[0]["rows"] == documents[1]["rows"]  # the same model in the same states
    out = capsys.readouterr().out
    assert all(f"Written: {file}" in out for file in files)
    main(command)
    out = capsys.readouterr().out
    assert all(f"Unchanged: {file}" in out for file in files)
    documents[0]["settings"]["timesteps"] = 16
    files[0].write_text(json.dumps(documents[0]))
    main(command)
    out = capsys.readouterr().out
    assert f"Written: {files[0]}" in out
    assert f"Unchanged: {files[1]}" in out
    main([*command, "--seed", "1"])
    assert "Unchanged" not in capsys.readouterr().out
    content = robustness(read(trained_study))
    assert content["notes"] == []
    assert "4 states of unseen levels (the same for all runs)" in content["about"]


def test_a_study_is_analysed_on_the_same_observations_once(trained_study, capsys):
    command = ["features", str(trained_study), "--observations", "8", "--draws", "3", "--device", "cpu"]
    main(command)
    folder = trained_study / "features" / GRID
    assert f"Written: {folder}" in capsys.readouterr().out
    content = representation(read(trained_study))
    assert content["numbers"]["runs"].tolist() == [1, 1]
    assert [title for title, _ in content["saliency"]] == ["mdpo, ppo"]
    main(command)
    assert capsys.readouterr().out == f"Unchanged: {folder}\n"


@pytest.mark.parametrize("command", ["robustness", "features"])
@pytest.mark.parametrize("option", [["--load-best"], ["--env", GRID], ["-o", "there.json"]])
def test_options_for_single_models_are_refused_for_a_study(study, command, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, str(study), *option])
    assert ended.value.code == 2
    assert f"{study} is a study" in capsys.readouterr().err
