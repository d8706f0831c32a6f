"""The plan of a study: counts against trainings, totals by hand."""

import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sb3_mdpo.callbacks import GeneralizationEvalCallback
from sb3_mdpo.lab.study.config import parse_study, read_study
from sb3_mdpo.lab.study.folder import RUN_COLUMNS
from sb3_mdpo.lab.study.plan import Costs, amount, costs_of, duration, evaluation_of, kind_of, makespan, measured
from sb3_mdpo.lab.study.runs import plan_runs
from sb3_mdpo.zoo.register import hyperparams_folder
from tests.support import tiny_studies
from tests.support.studies import study_command
from tests.support.tiny_studies import GRID, make_model, runs_of

STUDY = {
    "methods": ["mdpo"],
    "seeds": [0, 1],
    "timesteps": 500,
    "hyperparams": {"n_envs": 12, "n_steps": 8, "batch_size": 20, "n_epochs": 2},
    "evaluation": {"freq": 150, "episodes": 2, "n_envs": 2},
}


def variant(method: str = "mdpo", **hyperparams) -> dict:
    return {"name": "variant", "method": method, "hyperparams": hyperparams}


def write(folder: Path, **changes) -> Path:
    return tiny_studies.write(folder / "tiny.yml", **STUDY | changes)


def plan_command(*arguments: object) -> int:
    return study_command("plan", *arguments)


def test_costs_by_hand():
    (run, _) = runs_of(**STUDY)
    # Rollouts of 96 steps: six for 500. In each of 2 epochs, 2 members with 48 samples each answer for themselves and
    # for the other one. Evaluations before, when 150, 300 and 450 are passed, and at the end
    assert costs_of(run) == Costs(576, 288, 6 * 2 * 48 * (2 + 2), 6, 1 + 3 + 1)


@pytest.mark.parametrize(
    "of",
    [
        variant(),
        variant("independent"),
        variant("mdpo_detached"),
        variant("ppo"),
        variant(n_policies=3),
        variant(n_policies=3, distill_mode="random"),
        variant(n_policies=3, distill_mode="max"),
        variant(distill_coef="lin_1.0"),
        variant(distill_coef="lin_1.0", n_timesteps=576),
        variant(distill_coef="warmup_1.0_0.5"),
        variant(n_timesteps=96, n_steps=16, batch_size=64),
        variant("stable_baselines3.PPO"),
        variant("stable_baselines3.A2C"),
        variant("sb3_contrib.TRPO", n_critic_updates=3),
        variant("tests.support.studies.OwnPPO", n_epochs=3),
    ],
    ids=str,
)
def test_costs_are_what_a_training_logs(of, tmp_path):
    (run, _) = runs_of(**STUDY | {"methods": [of]})
    model = make_model(run, policy_kwargs={"features_extractor_kwargs": {"channels": [2]}})
    callback = GeneralizationEvalCallback(**evaluation_of(run), log_path=tmp_path, verbose=0)
    model.learn(run.n_timesteps, callback)
    model.env.close()
    last = callback.rows[-1]
    evaluated = {row["timesteps"] for row in callback.rows}
    counted = Costs(*(last[key] for key in ("timesteps", "timesteps_per_policy", "trained_images")), 0, len(evaluated))
    assert vars(costs_of(run)) | {"rollouts": 0} == vars(counted)


def test_kinds_are_runs_that_take_the_same():
    document = {"games": ["bigfish", "maze"], "modes": ["easy", "hard"], "methods": ["mdpo", "ppo"], "seeds": [0, 1]}
    runs = plan_runs(parse_study(document | {"num_levels": [1, 2]}, "x"))
    assert len({kind_of(run) for run in runs}) == 4  # modes differ in their steps, methods in everything
    (grid, *_) = runs_of(**STUDY)
    assert kind_of(grid) not in {kind_of(run) for run in runs}


def test_the_papers_matrix_is_a_study_of_480_runs():
    runs = plan_runs(read_study(Path(__file__).parents[2] / "examples" / "paper_matrix.yml"))
    assert len({run.name for run in runs}) == len(runs) == 16 * 6 * 5
    assert len({kind_of(run) for run in runs}) == 6
    assert {run.method for run in runs[:6]} == {run.method for run in runs}  # each method once
    two, one = 128 * 256, 64 * 256  # steps of a rollout, with two policies and with one
    full, double, half = (math.ceil(n / share) * share for n, share in ((10**8, two), (10**8, one), (10**8 // 2, one)))
    assert sum(costs_of(run).timesteps for run in runs[:6]) == 2 * full + double + 3 * half
    mdpo = costs_of(next(run for run in runs if run.method == "mdpo"))
    assert mdpo.trained_images == 2 * 3 * full  # three epochs, each sample through both policies
    entry = yaml.safe_load((hyperparams_folder() / "mdpo.yml").read_text())["procgen-maze-hard-v0"]
    assert entry["n_envs"] * entry["n_steps"] == two


def test_makespan_by_hand():
    assert makespan([3, 1, 1, 2], 2) == 4  # 3 and 1, 1, 2 beside it: the last begins after 2
    assert makespan([], 3) == 0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.integers(1, 5))
def test_makespan_is_between_its_bounds(seconds, slots):
    total = makespan(seconds, slots)
    assert max(max(seconds), sum(seconds) / slots) <= total * (1 + 1e-9) + 1e-9
    assert total <= sum(seconds) / slots + max(seconds) + 1e-9


def test_amounts_have_three_digits_and_durations_are_in_words():
    numbers = {0: "0 ", 999: "999 ", 1000: "1.00 k", 999_600: "1.00 M", 3.6e10: "36.0 G"}
    assert {number: amount(number) for number in numbers} == numbers
    assert (duration(None), duration(90_061)) == ("-", "1 day, 1:01:01")


def test_plan_with_stated_and_without_throughput(tmp_path, capsys):
    file = write(tmp_path)
    assert plan_command(file, "--steps-per-second", 2, "--machines", 2, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    (group,) = plan["groups"]
    assert group["runs"] == [f"{GRID}_8_mdpo_0", f"{GRID}_8_mdpo_1"]
    assert (group["timesteps"], group["evaluations"]) == (576, 5)
    assert (group["seconds"], group["disk"]) == (288, None)
    assert plan["wall_seconds"] == {"1": 288, "2": 288}  # both at once on one machine
    assert plan_command(file, "--steps-per-second", 2, "--jobs", 1) == 0
    header, row, _, *totals = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["method", "runs", "steps", "per"]
    assert row.split() == ["mdpo", "2", "576", "288", "2.30", "k", "5", "0:04:48", "-"]
    assert totals == [
        "In all: 2 runs, 1.15 k environment steps, 4.61 k images trained on",
        "On 1 machine, 1 at a time on each: 0:09:36",
    ]
    assert plan_command(file) == 0
    _, row, _, _, last = capsys.readouterr().out.splitlines()
    assert row.split() == ["mdpo", "2", "576", "288", "2.30", "k", "5", "-", "-"]
    assert last == "Time: state the throughput (--steps-per-second) or read it from a study (--measured)"


def test_a_measured_study_gives_rates_and_sizes_per_method(tmp_path, capsys):
    rows = [
        *[("mdpo", "a", 0, 1.0), ("mdpo", "a", 100, 10.0), ("mdpo", "b", 300, 30.0)],  # 10 per second
        *[("ppo", "c", 100, 5.0), ("ppo", "c", 100, 5.0)],
    ]
    lines = [",".join(map(str, (GRID, *row))) for row in rows]
    table = tmp_path / "results.csv"
    table.write_text("\n".join(["env_id,method,run,timesteps,seconds", *lines, "Other-v0,mdpo,d,100,1.0"]))
    for name, n_bytes in {"a": 1000, "b": 3000, "d": 10**6}.items():
        (tmp_path / name / "settings").mkdir(parents=True)
        (tmp_path / name / "settings" / "file").write_bytes(bytes(n_bytes))
    file = write(tmp_path, methods=["mdpo", "ppo"])
    assert measured(tmp_path, read_study(file)) == ({"mdpo": 10.0, "ppo": 20.0}, {"mdpo": 2000})
    assert plan_command(write(tmp_path), "--measured", tmp_path) == 0
    assert "images trained on, 4.00 kB of disk" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no throughput of independent in the study's environments: state it"):
        measured(tmp_path, read_study(write(tmp_path, methods=["mdpo", "independent"])))
    assert {"env_id", "method", "run"} < set(RUN_COLUMNS)  # the names in real tables
