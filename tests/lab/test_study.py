"""Studies: methods, study files, runs by the zoo's real command, interruptions, the table."""

import ast
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import A2C, PPO

from sb3_mdpo import MDPO
from sb3_mdpo.lab.generalization.trained import open_trained
from sb3_mdpo.lab.study.algorithms import adapted_hyperparams
from sb3_mdpo.lab.study.config import HYPERPARAMS, EvaluationSettings, parse_study, read_study
from sb3_mdpo.lab.study.folder import RUN_COLUMNS, StudyFolder
from sb3_mdpo.lab.study.methods import METHODS, Expression, read_policy_kwargs
from sb3_mdpo.lab.study.plan import costs_of
from sb3_mdpo.lab.study.runner import execute
from sb3_mdpo.lab.study.runs import CALLBACK, PlannedRun, plan_runs
from sb3_mdpo.lab.study.study import Progress, remaining_seconds, table, tail
from sb3_mdpo.zoo.register import hyperparams_folder
from tests.support.helpers import assert_same_parameters
from tests.support.studies import ROOT, OwnPPO, interrupted_study, results, study_command, wait_until, write_study
from tests.support.tiny_studies import GRID, make_model, runs_of, write

OWN = "tests.support.studies.OwnPPO"
MINIMAL = {"environments": [GRID], "methods": ["mdpo"], "seeds": [0]}


def entry(file: str, env_id: str) -> dict:
    return yaml.safe_load((hyperparams_folder() / file).read_text())[env_id]


def minimal(**changes) -> list[PlannedRun]:
    return plan_runs(parse_study(MINIMAL | changes, "x"))


NATIVE = "sb3_mdpo.envs.native_vec_env"
BASE = {
    "policy": "ImpalaCnnPolicy", "n_envs": 12, "n_timesteps": 1200, "n_policies": 2, "distill_coef": 0.7, "gamma": 0.9,
    "n_epochs": 3, "ent_coef": 0.01, "vec_env_wrapper": NATIVE,
}  # fmt: skip
ALONE = {"n_envs": 6, "n_timesteps": 600, "n_policies": 1}
WIDE = {"channels": [32, 64, 64], "features_dim": 512}
CHANGES = {
    "mdpo": {},
    "independent": {"distill_coef": 0.0},
    "independent_2x_epochs": {"distill_coef": 0.0, "n_epochs": 6},
    "independent_2x_entropy": {"distill_coef": 0.0, "ent_coef": 0.02},
    "mdpo_detached": {"detach_peers": True},
    "mdpo_half": {"n_timesteps": 600},
    "leep": {"distill_mode": "max", "vec_env_wrapper": [{NATIVE: {"level_shares": "per_policy"}}]},
    "ppo": ALONE,
    "ppo_2x_data": ALONE | {"n_timesteps": 1200},
    "ppo_l2": ALONE | {"policy_kwargs": {"optimizer_kwargs": {"eps": 1e-5, "weight_decay": 1e-4}}},
    "ppo_dropout": ALONE | {"policy_kwargs": {"features_extractor_kwargs": {"dropout": 0.1}}},
    "ppo_2x_width": ALONE | {"policy_kwargs": {"features_extractor_kwargs": WIDE}},
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_change_what_they_say_and_nothing_else(method):
    before = dict(BASE)
    adapted = METHODS[method](before)
    if "policy_kwargs" in adapted:
        adapted["policy_kwargs"] = ast.literal_eval(adapted["policy_kwargs"])
    assert adapted == BASE | CHANGES[method]
    assert before == BASE


@pytest.mark.parametrize("env_id", ["procgen-bigfish-hard-v0", "procgen-maze-easy-v0", GRID])
@pytest.mark.parametrize("method", ["ppo", "ppo_l2", "ppo_dropout"])
def test_baselines_are_those_of_the_zoos_files(method, env_id):
    """Two ways to the same settings: made from mdpo.yml, and written down in the baseline's own file."""
    made = METHODS[method](entry("mdpo.yml", env_id))
    written = entry(f"{method}.yml", env_id)
    assert written.pop("policy") == f"sb3_mdpo.common.policies.{made.pop('policy')}"
    assert eval(made.pop("policy_kwargs", "{}")) == eval(written.pop("policy_kwargs", "{}"))
    assert made.pop("precision", "auto") == "auto"  # which SB3's PPO does not have
    if "normalize" in made:  # the same for a single policy
        made["normalize"] = made["normalize"].replace(", per_policy=True", "")
    assert made == written | {"n_policies": 1, "distill_coef": 1.0}


@pytest.mark.parametrize("env_id", ["procgen-bigfish-hard-v0", "procgen-maze-easy-v0", GRID])
def test_sb3s_ppo_has_the_settings_of_its_file(env_id):
    made = adapted_hyperparams("stable_baselines3.PPO", entry("mdpo.yml", env_id))
    written = entry("ppo.yml", env_id)
    for name in ("policy_kwargs", "normalize"):
        ours, theirs = (one.pop(name, {}) for one in (made, written))
        assert (eval(ours) if isinstance(ours, str) else ours) == (eval(theirs) if theirs else theirs)
    assert made == written


def test_other_algorithms_have_the_arguments_that_they_know():
    base = BASE | {"n_steps": 8, "callback": ["sb3_mdpo.callbacks.ResumableCheckpointCallback", "a.B"]}
    policy = "sb3_mdpo.common.policies.ImpalaCnnPolicy"
    known = {
        "policy": policy,
        "vec_env_wrapper": NATIVE,
        "n_envs": 6,
        "n_timesteps": 600,
        "gamma": 0.9,
        "n_steps": 8,
        "ent_coef": 0.01,
    }
    assert adapted_hyperparams("stable_baselines3.A2C", base) == known | {"callback": ["a.B"]}
    assert adapted_hyperparams(OWN, base) == known | {"n_epochs": 3, "callback": base["callback"]}
    assert adapted_hyperparams("sb3_mdpo.MDPO", base) == base
    checkpoints = {"sb3_mdpo.callbacks.ResumableCheckpointCallback": {"keep": 3}}
    assert adapted_hyperparams("sb3_contrib.TRPO", base | {"callback": checkpoints})["callback"] == []


@pytest.mark.parametrize(
    ("method", "algo"),
    [
        ("stable_baselines3.PPO", "ppo"),
        ("stable_baselines3.a2c.A2C", "a2c"),
        ("sb3_contrib.RecurrentPPO", "ppo_lstm"),
        ("tests.support.studies.OwnPPO", "tests.support.studies.OwnPPO"),
        ("independent", "mdpo"),
        ("sb3_mdpo.MDPO", "mdpo"),
        ("sb3_mdpo.MaskableMDPO", "maskable_mdpo"),
        ("sb3_mdpo.RecurrentMDPO", "recurrent_mdpo"),
    ],
)
def test_the_zoo_trains_an_algorithm_by_its_name_there(method, algo):
    variant = {"name": "x", "method": method, "hyperparams": {"gamma": 0.5}}
    (run,) = minimal(methods=[variant], timesteps=1000, evaluation={"freq": 100})
    assert run.arguments[:3] == ["train", "--algo", algo]
    assert (run.method, run.hyperparams["gamma"]) == ("x", 0.5)
    assert run.n_policies == (2 if algo.endswith("mdpo") else 1)
    assert run.n_timesteps == 500 * run.n_policies
    assert run.hyperparams["callback"][-1][CALLBACK]["eval_freq"] == 50 * run.n_policies


def test_three_policies_share_environments_and_steps():
    base = BASE | {"n_policies": 3}
    assert METHODS["ppo"](base) == base | {"n_envs": 4, "n_timesteps": 400, "n_policies": 1}
    assert METHODS["mdpo_half"](base) == base | {"n_timesteps": 400}


@pytest.mark.parametrize("changes", [{}, {"n_policies": 3}, {"n_policies": 3, "distill_mode": "random"}])
def test_the_control_of_equal_compute_trains_on_as_many_images_as_mdpo(changes):
    hyperparams = {"n_envs": 12, "n_steps": 8, "batch_size": 8, **changes}
    runs = minimal(methods=["mdpo", "independent_2x_epochs"], hyperparams=hyperparams, timesteps=960)
    (mdpo, control) = map(costs_of, runs)
    assert control.trained_images == mdpo.trained_images
    assert control.timesteps == mdpo.timesteps


def test_twice_an_entropy_bonus_of_zero_is_refused():
    base = BASE | {"ent_coef": 0.0}
    with pytest.raises(ValueError, match="ent_coef is 0, and so is twice as much: set ent_coef in hyperparams"):
        METHODS["independent_2x_entropy"](base)
    del base["ent_coef"]  # the default
    with pytest.raises(ValueError, match="ent_coef is 0"):
        METHODS["independent_2x_entropy"](base)


def test_leep_divides_levels_in_the_native_engine_only():
    wrappers = ["a.B", {NATIVE: {"num_threads": 2}}]
    adapted = METHODS["leep"](BASE | {"vec_env_wrapper": wrappers})["vec_env_wrapper"]
    assert adapted == ["a.B", {NATIVE: {"num_threads": 2, "level_shares": "per_policy"}}]
    with pytest.raises(ValueError, match=r"vec_env_wrapper has no sb3_mdpo.envs.native_vec_env, which divides levels"):
        METHODS["leep"](BASE | {"vec_env_wrapper": "a.B"})


def test_what_the_file_says_of_the_network_stays():
    extractor, optimizer = "features_extractor_kwargs=dict(channels=(4, 8))", "optimizer_kwargs={'eps': 1e-8}"
    base = BASE | {"policy_kwargs": f"dict(activation_fn=nn.GELU, {extractor}, {optimizer})"}
    wide = read_policy_kwargs(METHODS["ppo_2x_width"](base)["policy_kwargs"])
    assert wide["features_extractor_kwargs"] == {"channels": [8, 16], "features_dim": 512}
    assert wide["optimizer_kwargs"] == {"eps": 1e-8}
    assert wide["activation_fn"] == Expression("nn.GELU")
    l2 = METHODS["ppo_l2"](base)["policy_kwargs"]
    assert "nn.GELU" in l2
    assert "{'eps': 1e-08, 'weight_decay': 0.0001}" in l2
    sgd = METHODS["ppo_l2"](BASE | {"policy_kwargs": "dict(optimizer_class=th.optim.SGD)"})["policy_kwargs"]
    assert read_policy_kwargs(sgd)["optimizer_kwargs"] == {"weight_decay": 1e-4}  # SGD has no eps


@pytest.mark.parametrize("method", METHODS)
def test_mdpo_takes_what_methods_give(method):
    (run,) = runs_of(methods=[method])
    model = make_model(run)
    model.env.close()
    encoder, wide = model.policy.members[0].features_extractor, method == "ppo_2x_width"
    assert len(model.policy.members) == (1 if method.startswith("ppo") else 2)
    assert encoder.features_dim == (256 if wide else 128)
    channels = [layer.out_channels for layer in encoder.cnn if hasattr(layer, "stride")]
    assert channels == ([32, 64] if wide else [16, 32])
    assert encoder.linear[-1].p == (0.1 if method == "ppo_dropout" else 0.0)
    assert model.policy.optimizer.defaults["weight_decay"] == (1e-4 if method == "ppo_l2" else 0)
    assert model.policy.optimizer.defaults["eps"] == 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_envs": 11}, "n_envs 11 cannot be divided among 2 policies"),
        ({"policy": ["ImpalaCnnPolicy", "CnnPolicy"]}, "policy has an entry per member"),
        ({"policy_kwargs": "[dict(), dict()]"}, "policy_kwargs has an entry per member"),
        ({"policy": "MlpPolicy"}, "the features extractor has no channels and features_dim to change"),
        ({"policy_kwargs": "dict(features_extractor_class=Mine)"}, "has no channels and features_dim to change"),
        ({"policy_kwargs": "dict(a="}, "is not a dictionary"),
        ({"policy_kwargs": "64"}, "is not a dictionary"),
    ],
)
def test_networks_that_a_method_cannot_change_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        METHODS["ppo_2x_width"](BASE | changes)


numbers = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
literals = st.recursive(
    st.none() | numbers | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@given(st.dictionaries(st.text(), literals, max_size=4))
def test_policy_kwargs_survive_reading_and_writing(arguments):
    assert read_policy_kwargs(repr(arguments)) == arguments
    assert read_policy_kwargs(arguments) == arguments


def test_defaults_of_a_study():
    study = parse_study(MINIMAL, "from_the_file")
    assert (study.name, study.num_levels, study.start_level, study.timesteps) == ("from_the_file", None, 0, None)
    assert (study.jobs, study.threads, study.device) == (1, 1, "auto")
    assert study.evaluation == EvaluationSettings(freq=None, episodes=256, n_envs=None, deterministic=False)
    (run,) = plan_runs(study)
    assert (run.name, run.n_timesteps) == (f"{GRID}_400_mdpo_0", 409_600)
    assert run.hyperparams["callback"][-1][CALLBACK]["eval_freq"] == 20_480


def test_games_and_modes_become_ids():
    document = {"games": ["bigfish", "maze"], "modes": ["easy", "hard"], "methods": ["mdpo"], "seeds": [0]}
    runs = plan_runs(parse_study(document, "x"))
    ids = [f"procgen-{one}-v0" for one in ("bigfish-easy", "bigfish-hard", "maze-easy", "maze-hard")]
    assert [(run.env_id, run.num_levels) for run in runs] == list(zip(ids, [200, 500, 200, 500], strict=True))


def test_variants_replace_hyperparameters_after_the_study_and_the_method():
    variant = {"name": "ppo_0.5", "method": "ppo", "hyperparams": {"n_envs": 10, "gamma": 0.5}}
    document = MINIMAL | {"methods": ["ppo", variant], "hyperparams": {"n_envs": 8, "gamma": 0.9}, "timesteps": 1000}
    runs = plan_runs(parse_study(document, "x"))
    assert [(run.method, run.hyperparams["n_envs"], run.hyperparams["gamma"], run.n_timesteps) for run in runs] == [
        ("ppo", 4, 0.9, 500),
        ("ppo_0.5", 10, 0.5, 500),
    ]


def test_methods_are_evaluated_after_the_same_steps_per_policy():
    for run in minimal(methods=list(METHODS), evaluation={"freq": 1000}):
        freq = run.hyperparams["callback"][-1][CALLBACK]["eval_freq"]
        assert freq == 500 * run.hyperparams.get("n_policies", 2), run.name


def test_the_last_evaluation_can_have_more_episodes():
    (run,) = minimal(evaluation={"episodes": 8, "final_episodes": 64})
    arguments = run.hyperparams["callback"][-1][CALLBACK]
    assert (arguments["episodes"], arguments["final_episodes"]) == (8, 64)
    (run,) = minimal()
    assert "final_episodes" not in run.hyperparams["callback"][-1][CALLBACK]
    with pytest.raises(ValueError, match="4 episodes must be at least 2, and no less than n_envs"):
        minimal(evaluation={"episodes": 8, "n_envs": 8, "final_episodes": 4})


def test_levels_and_other_callbacks_reach_the_run():
    hyperparams = {"callback": "sb3_mdpo.callbacks.HParamCallback"}
    (run,) = minimal(hyperparams=hyperparams, num_levels=7, start_level=3)
    assert run.hyperparams["env_kwargs"] == {"num_levels": 7, "start_level": 3}
    assert (run.num_levels, run.start_level) == (7, 3)
    first, (second,) = run.hyperparams["callback"]
    assert (first, second) == (hyperparams["callback"], CALLBACK)


@settings(max_examples=10, deadline=None)
@given(
    methods=st.lists(st.sampled_from(sorted(METHODS)), min_size=1, unique=True),
    seeds=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4, unique=True),
    num_levels=st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=3, unique=True),
    games=st.lists(st.sampled_from(["bigfish", "maze", "coinrun"]), min_size=1, unique=True),
)
def test_there_is_a_run_for_each_combination_with_a_name_of_its_own(methods, seeds, num_levels, games):
    document = {"games": games, "methods": methods, "seeds": seeds, "num_levels": num_levels}
    runs = plan_runs(parse_study(document, "x"))
    assert len(runs) == len(methods) * len(seeds) * len(num_levels) * len(games)
    assert len({run.name for run in runs}) == len(runs)
    assert [run.seed for run in runs] == [seed for seed in seeds for _ in range(len(runs) // len(seeds))]
    assert runs == plan_runs(parse_study(yaml.safe_load(yaml.safe_dump(document)), "x"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["mpdo"]}, r"methods.0.method: 'mpdo': .*\(did you mean mdpo\?\); use one of mdpo, independent"),
        (
            {"methods": ["no.such.Class"]},
            r"methods.0.method: .*there is no class no.such.Class \(No module named 'no'\)",
        ),
        ({"methods": ["stable_baselines3.PPPO"]}, "there is no class stable_baselines3.PPPO .* write module.Class"),
        ({"methods": ["stable_baselines3.DQN"]}, "DQN is not a subclass of SB3's OnPolicyAlgorithm, like"),
        ({"methods": [{"name": "x", "method": "a b.C"}]}, "unknown method; use one of .* or the dotted name of an alg"),
        ({"methods": [{"method": OWN, "hyperparams": {"own_coeff": 1}}]}, "did you mean own_coef"),
        ({"methods": [{"method": OWN, "hyperparams": {"n_policies": 2}}]}, "hyperparams: unknown key 'n_policies'"),
        ({"methods": [["mdpo"]]}, r"methods.0: \['mdpo'\]: must be a mapping"),
        ({"methods": [{"name": "a"}]}, "methods.0.method: is required"),
        ({"methods": [{"name": "a/b", "method": "mdpo"}]}, "methods.0.name: 'a/b': becomes part of a folder's name"),
        ({"methods": [{"method": "mdpo", "hyperparams": {"distil_coef": 1}}]}, "did you mean distill_coef"),
        ({"methods": ["mdpo", {"method": "mdpo", "hyperparams": {"gamma": 0}}]}, "methods: .*'mdpo' is there twice"),
        ({"methods": []}, "methods: .* at least one entry"),
        ({"methods": "mdpo"}, "methods: 'mdpo': must be a list"),
        ({"seeds": None}, "seeds: is required"),
        ({"seeds": [1, 1]}, "seeds: .* 1 is there twice"),
        ({"seeds": [-1]}, "seeds.0: -1: must be greater than or equal to 0"),
        ({"seeds": ["0"]}, "seeds.0: '0': not an integer"),
        ({"num_levels": [0]}, "num_levels.0: 0: must be greater than or equal to 1"),
        ({"num_levels": [True]}, "num_levels.0: True: must be an integer"),
        ({"timesteps": 0.5}, "timesteps: 0.5: must be an integer"),
        ({"jobs": 0}, "jobs: 0: must be greater"),
        ({"environments": ["TexturedGrids-v0"]}, r"no environment TexturedGrids-v0 \(did you mean TexturedGrid-v0\?\)"),
        ({"environments": ["CartPole-v1"]}, "CartPole-v1 has no levels to choose from"),
        ({"environments": ["procgen-maze-exploration-v0"]}, "has no levels to choose from"),
        ({"games": ["maze"]}, "either environments"),
        ({"modes": ["easy"]}, "modes belong to games"),
        ({"hyperparams": {"n_timesteps": 5}}, "hyperparams: write timesteps: 5 instead of n_timesteps"),
        ({"hyperparams": {"env_kwargs": {"num_levels": 5}}}, "num_levels, which are keys of the study"),
        ({"hyperparams": {"env_kwargs": "num_levels"}}, "env_kwargs must be a mapping"),
        ({"hyperparams": [1]}, r"hyperparams: \[1\]: must be a mapping"),
        ({"hyperparams": {"n_policies": 0}}, "hyperparams: n_policies must be an integer of at least 1, not 0"),
        ({"hyperparams": {"n_envs": "64"}}, "n_envs '64': not an integer; write it without quotes"),
        ({"hyperparams": {"policy": 3}}, "hyperparams: policy is written as in the zoo's files, not 3"),
        ({"methods": [{"method": "mdpo", "hyperparams": {"n_timesteps": "1e6"}}]}, "hyperparams: n_timesteps '1e6'"),
        ({"evaluation": {"frequency": 5}}, r"evaluation: unknown key 'frequency' \(did you mean freq\?\)"),
        ({"evaluation": {"episodes": 1}}, "must be at least 2"),
        ({"evaluation": {"episodes": 4, "n_envs": 5}}, r"no less than n_envs \(5\)"),
        ({"evaluation": {"deterministic": "no"}}, "evaluation.deterministic: 'no': must be true or false"),
        ({"name": "../up"}, "becomes part of a folder's name"),
        ({"device": 0}, "device: 0: must be text"),
        ({"resources": {"cpu": 1}}, r"resources: unknown key 'cpu' \(did you mean cpus\?\)"),
        ({"resources": {"cpus": 0}}, "resources.cpus: 0: must be greater than 0"),
        ({"resources": {"gpus": float("inf")}}, "resources.gpus: inf: must be a finite number"),
        ({"resources": {"gpus": True}}, "resources.gpus: True: must be a valid number"),
        ({"resources": {"retries": -1}}, "resources.retries: -1: must be greater than or equal to 0"),
        ({"resources": [1]}, r"resources: \[1\]: must be a mapping"),
        ({"methods": ["ppo"], "hyperparams": {"n_envs": 7}}, "ppo on TexturedGrid-v0: n_envs 7 cannot be divided"),
    ],
)
def test_bad_study_files_end_as_one_line_that_names_the_key(changes, message, tmp_path, capsys):
    path = write_study(tmp_path / "bad.yml", MINIMAL | changes)
    with pytest.raises(ValueError, match=message):
        plan_runs(read_study(path))
    assert study_command("run", path, "-o", tmp_path / "study") == 2
    error = capsys.readouterr().err
    assert error.startswith("sb3-mdpo study: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("text", ["[1, 2]", ""])
def test_files_that_are_no_mapping(text, tmp_path):
    (tmp_path / "bad.yml").write_text(text)
    with pytest.raises(ValueError, match="is a mapping"):
        read_study(tmp_path / "bad.yml")


def test_the_schema_for_editors_describes_study_files(capsys):
    assert study_command("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["required"]) == {"methods", "seeds"}
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() >= {"games", "modes", "environments", "resources"}
    assert schema["properties"]["hyperparams"]["propertyNames"]["enum"] == HYPERPARAMS
    method, variant = schema["properties"]["methods"]["items"]["anyOf"]
    known, dotted = method["anyOf"]
    assert known["enum"] == list(METHODS)
    assert re.match(dotted["pattern"], OWN)
    assert variant == {"$ref": "#/$defs/Variant"}


def test_the_example_is_a_study():
    runs = plan_runs(read_study(Path(__file__).parents[2] / "examples" / "study_small.yml"))
    assert {run.method for run in runs} == {"mdpo", "independent"}
    assert {run.env_id for run in runs} == {GRID}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of a complete study of two runs, which nobody may change."""
    folder = tmp_path_factory.mktemp("study")
    assert study_command("run", write(folder / "tiny.yml"), "-o", folder / "out") == 0
    return folder / "out"


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_results_hold_every_evaluation_of_every_run_once(finished):
    rows = results(finished)
    assert {row["study"] for row in rows} == {"tiny"}
    members = ["policy 0", "policy 1", "ensemble"]
    expected = [("mdpo", t, t // 2, policy) for t in (0, 256, 512) for policy in members]
    expected += [("ppo", t, t, "policy 0") for t in (0, 128, 256)]
    keys = ("method", "timesteps", "timesteps_per_policy", "policy")
    assert [tuple(row[key] for key in keys) for row in rows] == [tuple(map(str, row)) for row in expected]
    for run in ("mdpo", "ppo"):
        name = f"{GRID}_8_{run}_0"
        with (finished / name / "generalization.csv").open(newline="") as file:
            own = list(csv.DictReader(file))
        ours = [row for row in rows if row["run"] == name]
        assert [{key: row[key] for key in own[0]} for row in ours] == own
        key = {"study": "tiny", "env_id": GRID, "num_levels": "8", "start_level": "0", "method": run, "seed": "0"}
        assert all({column: row[column] for column in RUN_COLUMNS} == key | {"run": name} for row in ours)


def test_a_run_is_a_run_of_the_zoo_with_its_log_and_settings(finished):
    folder = finished / f"{GRID}_8_ppo_0"
    trained = open_trained(folder, device="cpu")
    assert (trained.model.n_policies, trained.model.num_timesteps, trained.model.seed) == (1, 256, 0)
    assert trained.env_kwargs == {"num_levels": 8, "start_level": 0}
    assert yaml.safe_load((folder / "run.yml").read_text())[GRID]["n_envs"] == 4
    assert "Eval num_timesteps=256" in (folder / "run.log").read_text()
    command = (folder / GRID / "command.txt").read_text()
    options = "-conf run.yml -f . --seed 0 --eval-freq -1 --device cpu"
    assert f"-m sb3_mdpo.zoo train --algo mdpo --env {GRID} {options}" in command
    assert not list(finished.glob("unfinished/*"))


def test_what_is_complete_is_not_trained_again(copied, tmp_path):
    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in copied.glob("Textured*/**/*")}

    before, table_before = written(), (copied / "results.csv").read_bytes()
    (copied / "results.csv").unlink()
    file = write(tmp_path / "tiny.yml", threads=2, jobs=1)  # how it is run may change
    assert study_command("run", file, "-o", copied, "--jobs", 2) == 0
    assert written() == before
    assert (copied / "results.csv").read_bytes() == table_before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timesteps": 1024}, "_mdpo_0 with n_timesteps 512, but the study (or mdpo.yml) says 1024 now"),
        ({"start_level": 5}, "_mdpo_0 with callback"),
        ({"methods": [{"name": "ppo", "method": "ppo_2x_data"}]}, "_ppo_0 with n_timesteps 256"),
        (
            {"methods": [{"name": "mdpo", "method": OWN}]},
            "_mdpo_0 with algo mdpo, but the study (or mdpo.yml) says test",
        ),
    ],
)
def test_changes_of_complete_runs_are_refused(copied, tmp_path, capsys, changes, message):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert study_command("run", write(tmp_path / "tiny.yml", **changes), "-o", copied) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("changes", [{"seeds": [5, 6]}, {"num_levels": [9]}, {"methods": ["independent"]}])
def test_another_study_of_the_same_name_is_refused(copied, tmp_path, capsys, changes):
    """It would replace the table and the study's file."""
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    file = write(tmp_path / "tiny.yml", **changes)
    assert study_command("run", file, "-o", copied) == 2
    error = capsys.readouterr().err
    planned_runs = plan_runs(read_study(file))
    there, here = f"{GRID}_8_mdpo_0, 2 in all", f"{planned_runs[0].name}, {len(planned_runs)} in all"
    assert f"{copied} holds the complete runs of another study ({there}) and none of this one ({here})" in error
    assert f"give this study another name or folder (-o), or keep a run of that one ({copied}/study.yml)." in error
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_a_study_that_keeps_a_run_is_the_same_study(copied, tmp_path):
    file = write(tmp_path / "tiny.yml", methods=["ppo"])
    assert study_command("run", file, "-o", copied) == 0
    assert {row["method"] for row in results(copied)} == {"ppo"}
    assert study_command("run", write(file), "-o", copied) == 0
    assert {row["method"] for row in results(copied)} == {"mdpo", "ppo"}


@pytest.mark.parametrize("lost", ["generalization.csv", f"{GRID}.zip"])
def test_a_complete_run_that_lost_a_file_is_not_done(copied, tmp_path, capsys, lost):
    run = copied / f"{GRID}_8_mdpo_0"
    kept = (run / lost).read_bytes()
    (run / lost).unlink()
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    file = write(tmp_path / "tiny.yml")
    what = f"{run} has no {lost}: put it back, or delete the folder to train the run again"
    shown = status(file, copied, capsys)
    assert shown.splitlines()[1].split() == [GRID, "8", "mdpo", "-", "-", "-", "-", "-", "1"]
    assert f"damaged: {what}" in shown
    assert study_command("run", file, "-o", copied) == 2
    assert what in capsys.readouterr().err
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
    (run / lost).write_bytes(kept)
    assert study_command("run", file, "-o", copied) == 0


def test_a_run_that_fails_is_reported_and_another_attempt_can_succeed(copied, tmp_path, capfd):
    variant = {"name": "big", "method": "mdpo", "hyperparams": {"batch_size": 4096}}
    name = f"{GRID}_8_big_0"
    file = write(tmp_path / "tiny.yml", methods=["mdpo", variant, "ppo"])
    left_over = copied / "unfinished" / name / "mdpo" / "left_over"
    left_over.mkdir(parents=True)
    assert study_command("run", file, "-o", copied) == 1
    captured = capfd.readouterr()
    assert f"{name} failed, the end of {copied}/failed/{name}/run.log:" in captured.out + captured.err
    assert "batch_size" in captured.out + captured.err
    assert "2 of 3 runs are complete" in captured.out
    assert not left_over.exists()
    assert "failed/" in status(file, copied, capfd)

    variant["hyperparams"]["batch_size"] = 64
    assert study_command("run", write(file, methods=["mdpo", variant, "ppo"]), "-o", copied) == 0
    assert [row["method"] for row in results(copied)] == ["mdpo"] * 9 + ["big"] * 9 + ["ppo"] * 3
    assert not (copied / "failed" / name).exists()
    assert "remaining" not in status(file, copied, capfd)


def status(file: Path, folder: Path | None, capture: pytest.CaptureFixture) -> str:
    capture.readouterr()
    assert study_command("status", file, *(["-o", folder] if folder else [])) == 0
    return capture.readouterr().out


def test_interrupted_study_ends_its_runs_and_can_be_continued(copied, tmp_path, capfd):
    long = {"name": "long", "method": "ppo", "hyperparams": {"n_timesteps": 10**9}}
    file = write(tmp_path / "tiny.yml", methods=["mdpo", long])
    name = f"{GRID}_8_long_0"

    def meanwhile() -> None:
        wait_until(lambda: list((copied / "unfinished" / name).glob("mdpo/*/generalization.csv")))
        shown = status(file, copied, capfd).splitlines()
        assert shown[2].split() == [GRID, "8", "long", "-", "1", "-", "-", "-", "-"]
        assert re.match(rf"running: {name}, \d+ of 1000000000 steps", shown[3])
        assert study_command("run", file, "-o", copied) == 2
        assert "is being run already" in capfd.readouterr().err
        assert processes_in(copied / "unfinished" / name)

    code, output = interrupted_study(meanwhile, "run", file, "-o", copied)
    assert code == 130, output
    assert "the same command continues" in output
    assert not processes_in(copied / "unfinished" / name)
    assert not (copied / name).exists()
    shown = status(file, copied, capfd).splitlines()
    assert shown[2].split() == [GRID, "8", "long", "-", "-", "1", "-", "-", "-"]
    assert re.match(rf"interrupted: {name}, \d+ of 1000000000 steps", shown[3])
    assert {row["method"] for row in results(copied)} == {"mdpo", "ppo"}  # the table before the interruption


def gated(name: str, at: Path, until: Path) -> dict:
    """A variant that writes one file when it begins, and waits for the other."""
    gate = {"tests.support.studies.Gate": {"reached": str(at), "at_step": 0, "opened": str(until)}}
    hyperparams = {"n_timesteps": 256, "callback": gate}
    return {"name": name, "method": "ppo", "hyperparams": hyperparams}


def test_two_commands_train_a_part_of_the_study_each_at_the_same_time(tmp_path, monkeypatch):
    """The first run of each waits for that of the other."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    a, b = tmp_path / "a", tmp_path / "b"
    methods = [gated("one", a, b), gated("two", b, a)]
    file = write(tmp_path / "tiny.yml", methods=methods, seeds=[0, 1], jobs=1)
    out = tmp_path / "out"
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "sb3_mdpo", "study", "run", file, "-o", out, "--only", f"{part}/2"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for part in (1, 2)
    ]  # fmt: skip
    try:
        outputs = [command.communicate(timeout=300)[0] for command in commands]
    finally:
        for command in commands:
            command.kill()
    assert [command.returncode for command in commands] == [0, 0], outputs
    for part, output in enumerate(outputs, start=1):
        assert f"2 of 2 runs of part {part}/2 and " in output
    assert "4 of 4 runs are complete" in "".join(outputs)
    assert {(row["method"], row["seed"]) for row in results(out)} == set(product(["one", "two"], ["0", "1"]))
    assert not list((out / ".claims").iterdir())


def test_a_part_is_every_nth_run(copied, tmp_path, capsys):
    """Counted in all runs, so that parts do not depend on what is complete."""
    file = write(tmp_path / "tiny.yml", seeds=[0, 1])
    planned_runs = plan_runs(read_study(file))
    assert study_command("run", file, "-o", copied, "--only", "3/3") == 0
    assert "1 of 1 runs of part 3/3 and 3 of 4 runs are complete" in capsys.readouterr().out
    assert {row["run"] for row in results(copied)} == {run.name for run in planned_runs[:3]}


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "1/2/3", "-1/2"])
def test_parts_that_do_not_exist(part, tmp_path, capsys):
    assert study_command("run", write(tmp_path / "tiny.yml"), "-o", tmp_path / "out", f"--only={part}") == 2
    assert f"{part!r} is not a part: write 1/4 for the first of four, up to 4/4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_of_a_command_that_was_killed_are_free_again(tmp_path, folder, run):
    claim = f"""
from pathlib import Path
from sb3_mdpo.lab.study.claims import Claims
claim = Claims(Path({str(folder.path / ".claims")!r})).claim([{run.name!r}])
print("claimed", flush=True)
input()
"""
    folder.path.mkdir()
    with subprocess.Popen([sys.executable, "-c", claim], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"claimed\n"
        assert folder.trained_now() == {run.name}
        with pytest.raises(OSError, match=f"another command trains {run.name}. Wait for it"), folder.claimed([run]):
            pass
        other.kill()
    with folder.claimed([run]) as missing:
        assert missing == [run]
        assert folder.trained_now() == {run.name}
    assert folder.trained_now() == set()
    assert not list((folder.path / ".claims").iterdir())


def processes_in(folder: Path) -> list[int]:
    """Ids of the processes that work in a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # has ended since, or is another user's
            if link.readlink() == folder.resolve():
                found.append(int(link.parent.name))
    return found


@pytest.fixture
def folder(tmp_path) -> StudyFolder:
    return StudyFolder(tmp_path / "out")


@pytest.fixture(scope="module")
def run() -> PlannedRun:
    """The study's run of MDPO."""
    return runs_of()[0]


def test_a_command_that_succeeds_without_the_whole_training_has_failed(folder, run, monkeypatch):
    """As an interrupted training of the zoo does, which saves what it has."""
    monkeypatch.setattr(PlannedRun, "arguments", ["hyperparams"])
    assert execute(run, folder, 1, "cpu", stopped=lambda: True) == "interrupted"
    assert folder.unfinished(run).is_dir()
    assert execute(run, folder, 1, "cpu") == "failed"
    assert tail(folder.failed(run) / "run.log") == str(hyperparams_folder())
    assert not folder.unfinished(run).exists()
    assert not folder.complete(run).exists()


@pytest.fixture(scope="module")
def interrupted(run, tmp_path_factory) -> Path:
    """Folder of a study with an interrupted run, which nobody may change."""
    folder = StudyFolder(tmp_path_factory.mktemp("interrupted") / "out")
    begun = folder.unfinished(run) / "mdpo" / f"{GRID}_1" / "generalization.csv"
    assert execute(run, folder, 1, "cpu", stopped=begun.exists) == "interrupted"
    assert folder.resumable(run) == begun.parent
    return folder.path


def test_an_interrupted_run_is_resumed_elsewhere_with_the_same_result(finished, interrupted, folder, run):
    shutil.copytree(interrupted, folder.path)
    assert execute(run, folder, 1, "cpu") == "done"
    evaluations = [StudyFolder(path).evaluations(run).read_text().splitlines() for path in (finished, folder.path)]
    assert len({len(lines) for lines in evaluations}) == 1
    assert "Resuming from step" in (folder.complete(run) / "run.log").read_text()
    assert not (folder.complete(run) / "checkpoints").exists()
    alone, resumed = (MDPO.load(path / f"{GRID}.zip") for path in (finished / run.name, folder.complete(run)))
    assert_same_parameters(resumed.policy, alone.policy)


def test_an_interrupted_run_with_other_settings_is_started_anew(interrupted, folder):
    shutil.copytree(interrupted, folder.path)
    (other, _) = runs_of(timesteps=256)
    assert folder.resumable(other) is None
    assert execute(other, folder, 1, "cpu") == "done"
    assert folder.budget(other)[0] == 256


def test_status_says_how_far_interrupted_runs_are(interrupted, tmp_path, capsys):
    out = Path(shutil.copytree(interrupted, tmp_path / "out"))
    name = f"{GRID}_8_mdpo_0"
    file = write(tmp_path / "tiny.yml", methods=["mdpo"])
    shown = status(file, out, capsys)
    assert shown.splitlines()[1].split() == [GRID, "8", "mdpo", "-", "-", "1", "-", "-", "-"]
    (steps,) = re.findall(rf"interrupted: {name}, (\d+) of 512 steps", shown)
    assert int(steps) == max(int(path.stem[-12:]) for path in out.glob("unfinished/*/mdpo/*/checkpoints/*.zip"))
    file = write(file, methods=["mdpo"], timesteps=1024)
    assert f"interrupted: {name}, starts again: its settings have changed" in status(file, out, capsys)
    for folder in out.glob("unfinished/*/mdpo/*/checkpoints"):
        shutil.rmtree(folder)
    file = write(file, methods=["mdpo"])
    assert f"interrupted: {name}, starts again: it has no checkpoint" in status(file, out, capsys)


def test_a_study_of_other_algorithms(tmp_path, folder, monkeypatch):
    """The zoo's own, one that cannot resume, and one of the user's."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    named = {"sb3_ppo": "stable_baselines3.PPO", "a2c": "stable_baselines3.A2C", "own": OWN}
    methods = [{"name": name, "method": method} for name, method in named.items()]
    methods[2]["hyperparams"] = {"own_coef": 2.0}
    file = write(tmp_path / "tiny.yml", methods=methods)
    _, a2c, _ = plan_runs(read_study(file))
    begun = folder.unfinished(a2c) / "a2c" / f"{GRID}_1" / "generalization.csv"
    assert execute(a2c, folder, 1, "cpu", stopped=begun.exists) == "interrupted"
    assert folder.resumable(a2c) is None
    assert study_command("run", file, "-o", folder.path) == 0
    keys = ("method", "timesteps", "timesteps_per_policy", "trained_images", "policy")
    rows = [tuple(row[key] for key in keys) for row in results(folder.path)]
    evaluated = [(t, t, t, "policy 0") for t in (0, 128, 256)]
    assert rows == [(method, *map(str, row)) for method in named for row in evaluated]
    for name, kind, algo in (("sb3_ppo", PPO, "ppo"), ("a2c", A2C, "a2c"), ("own", OwnPPO, OWN)):
        run = folder.path / f"{GRID}_8_{name}_0"
        assert f"-m sb3_mdpo.zoo train --algo {algo} " in (run / GRID / "command.txt").read_text()
        model = open_trained(run, device="cpu").model
        assert type(model) is kind
        assert (model.n_envs, model.num_timesteps) == (4, 256)
    assert model.own_coef == 2.0


WATCHDOG = [sys.executable, "-m", "sb3_mdpo.lab.study.parent_watchdog"]


def test_a_watched_command_ends_when_its_parent_is_killed(tmp_path):
    watched = [*WATCHDOG, "sleep", "300"]
    popen = f"subprocess.Popen({watched}, stdin=subprocess.PIPE, cwd={str(tmp_path)!r}, start_new_session=True)"
    owner = subprocess.Popen([sys.executable, "-c", f"import signal, subprocess; {popen}; signal.pause()"])
    wait_until(lambda: len(processes_in(tmp_path)) == 2)
    owner.kill()
    owner.wait()
    wait_until(lambda: not processes_in(tmp_path), 10)


@pytest.mark.parametrize(("code", "expected"), [("exit 3", 3), ("kill -9 $$", 137)])
def test_the_watchdog_passes_the_exit_code_on(code, expected):
    with subprocess.Popen([*WATCHDOG, "sh", "-c", code], stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=30) == expected


def test_a_training_that_is_killed_has_not_failed(folder, run):
    def kill() -> bool:
        if len(ours := processes_in(folder.unfinished(run))) == 2:  # the watchdog and its command
            os.kill(max(ours), signal.SIGKILL)
        return False

    assert execute(run, folder, 1, "cpu", stopped=kill) == "interrupted"
    assert folder.unfinished(run).is_dir()
    assert not folder.failed(run).exists()


def test_tail_of_a_log(tmp_path):
    log = tmp_path / "run.log"
    log.write_bytes(b"one\n\ntwo \nthr\xffee\n\n")
    assert tail(log, 2) == "two\nthr\ufffdee"


def planned(method: str, n_timesteps: int, seed: int = 0) -> PlannedRun:
    levels = {"num_levels": 8, "start_level": 0}
    return PlannedRun("tiny", GRID, method, seed, {"n_timesteps": n_timesteps, "env_kwargs": levels})


def test_remaining_time_by_hand():
    progress = [
        Progress(planned("mdpo", 100), "done", 100, 50.0),
        Progress(planned("mdpo", 100, 1), "running", 20, 10.0),
        Progress(planned("ppo", 100), "missing"),
    ]
    # mdpo: 60 s for 120 steps, so 40 s for 80 more; ppo as the average, 50 s for 100
    assert remaining_seconds(progress, jobs=1) == pytest.approx(90)
    assert remaining_seconds(progress, jobs=4) == pytest.approx(50)  # no faster than the longest run
    assert remaining_seconds(progress[2:], jobs=1) is None
    # 40 steps are in the checkpoint, but the time is known of the 20 until the evaluation
    resumed = Progress(planned("mdpo", 100, 1), "interrupted", 20, 10.0, steps=40)
    assert remaining_seconds([resumed], jobs=1) == pytest.approx(30)
    assert remaining_seconds(progress[:1], jobs=1) == 0


def test_table_counts_runs_per_method():
    runs = (("mdpo", 0, "done"), ("mdpo", 1, "failed"), ("mdpo", 2, "done"), ("ppo_2x_data", 0, "missing"))
    progress = [Progress(planned(method, 1, seed), state) for method, seed, state in runs]
    assert [line.split() for line in table(progress).splitlines()] == [
        ["environment", "levels", "method", "done", "running", "interrupted", "failed", "missing", "damaged"],
        [GRID, "8", "mdpo", "2", "-", "-", "1", "-", "-"],
        [GRID, "8", "ppo_2x_data", "-", "-", "-", "-", "1", "-"],
    ]


def test_status_of_the_default_folder_before_and_after_the_runs(tmp_path, monkeypatch, finished, capsys):
    """It is named after the study."""
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "tiny.yml")
    assert "remaining: not known yet" in status(file, None, capsys)
    assert not (tmp_path / "studies").exists()
    shutil.copytree(finished, tmp_path / "studies" / "tiny")
    assert "remaining" not in status(file, None, capsys)
