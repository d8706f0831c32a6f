"""The zoo's own commands on real Procgen, with MDPO."""

import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from rl_zoo3 import exp_manager
from rl_zoo3.callbacks import TrialEvalCallback
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo import MDPO, MaskableMDPO, RecurrentMDPO
from sb3_mdpo.zoo.hyperparams import convert_mdpo_params, sample_mdpo_params
from sb3_mdpo.zoo.masked_evaluation import MaskableTrialEvalCallback
from sb3_mdpo.zoo.register import _evaluating_with_masks
from tests.support.commands import run

ENV_ID = "procgen-bigfish-easy-v0"
# A tiny run with the file's own settings: 2 iterations of 8 environments x 32 steps
TINY = ["-params", "n_envs:8", "n_steps:32", "batch_size:64", "n_epochs:1"]
TRAIN = f"train --algo mdpo --env {ENV_ID} -n 500 --device cpu --seed 3 --num-threads 1".split()


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """A command of the zoo in a forked process."""
    result = run(list(arguments), cwd, env={"MPLBACKEND": "Agg", "COLUMNS": "200"})
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def started(*arguments: str, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess:
    """A command in a new process, where the start of the interpreter matters."""
    environ = {**os.environ, "COLUMNS": "200", **env}
    result = subprocess.run(arguments, cwd=cwd, env=environ, capture_output=True, text=True, timeout=600, check=False)
    if check:
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def trained(workdir) -> Path:
    """One run of ``rl_zoo3 train --algo mdpo``, with evaluation, TensorBoard, progress bar and checkpoints."""
    options = ["--eval-freq", "256", "--eval-episodes", "2", "--n-eval-envs", "2", "--save-freq", "256"]
    command("rl_zoo3", *TRAIN, *TINY, *options, "-tb", "tb", "--progress", cwd=workdir)
    return workdir / "logs" / "mdpo" / f"{ENV_ID}_1"


def test_train_writes_model_evaluations_statistics_and_monitor(trained, workdir):
    assert MDPO.load(trained / f"{ENV_ID}.zip").num_timesteps == 512
    assert np.load(trained / "evaluations.npz")["timesteps"].tolist() == [256, 512]
    for name in ("best_model.zip", "rl_model_256_steps.zip", f"{ENV_ID}/vecnormalize.pkl"):
        assert (trained / name).exists()
    # One file of episodes for all environments, under a header
    assert [path.name for path in trained.glob("*monitor.csv")] == ["monitor.csv"]
    rows = (trained / "monitor.csv").read_text().splitlines()
    assert rows[1] == "r,l,t,is_success"
    assert len(rows) > 2
    # Folders of TensorBoard are named after the algorithm
    assert [path.name for path in (workdir / "tb" / ENV_ID).iterdir()] == ["MDPO_1"]


def test_enjoy(trained, workdir):
    enjoy = f"rl_zoo3 enjoy --algo mdpo --env {ENV_ID} -f logs --no-render -n 400 --stochastic --device cpu".split()
    result = command(*enjoy, "--reward-log", "single", cwd=workdir)
    assert "Mean reward" in result.stdout
    command(*enjoy, "--n-envs", "3", "--reward-log", "several", cwd=workdir)
    for log in ("single", "several"):
        assert [path.name for path in (workdir / log).iterdir()] == ["monitor.csv"]
        assert len((workdir / log / "monitor.csv").read_text().splitlines()) > 2


def test_record_video(trained, workdir):
    command(*f"python -m rl_zoo3.record_video --algo mdpo --env {ENV_ID} -f logs -n 30".split(), cwd=workdir)
    (video,) = (trained / "videos").glob("*.mp4")
    assert video.stat().st_size > 1000


def test_all_plots(trained, workdir):
    command(*f"rl_zoo3 all_plots -a mdpo -e {ENV_ID} -f logs -o summary --no-display".split(), cwd=workdir)
    summary = pickle.loads((workdir / "summary.pkl").read_bytes())
    assert summary[ENV_ID]["MDPO-logs"]["timesteps"].tolist() == [256, 512]


@pytest.mark.parametrize("y_axis", ["reward", "length", "success", "reward of another environment"])
def test_plot_train(trained, workdir, y_axis):
    plot = ["rl_zoo3", "plot_train", "-a", "mdpo", "-f", "logs", "-y", y_axis.split()[0], "--episode-window", "2"]
    is_drawn = " " not in y_axis
    result = command(*plot, "-e", ENV_ID if is_drawn else "procgen-maze-easy-v0", cwd=workdir)
    assert ("No artists with labels" not in result.stdout + result.stderr) == is_drawn  # a warning of matplotlib


def test_continue_training_with_the_trained_agent(trained, workdir):
    agent = str(trained / f"{ENV_ID}.zip")
    result = command("rl_zoo3", *TRAIN, *TINY, "--eval-freq", "-1", "-f", "more", "-i", agent, cwd=workdir)
    assert "Loading saved VecNormalize stats" in result.stdout
    models = [MDPO.load(path) for path in (agent, workdir / "more" / "mdpo" / f"{ENV_ID}_1" / f"{ENV_ID}.zip")]
    steps = [model.policy.optimizer.state_dict()["state"][0]["step"].item() for model in models]
    # 2 iterations of 2 minibatches each time: the optimizer goes on counting
    assert steps == [4, 8]


@pytest.mark.parametrize(("algo", "env_id"), [("mdpo", "procgen-heist-memory-v0"), ("ppo", "procgen-coinrun-v0")])
def test_all_procgen_ids_run_natively_whatever_the_file_or_the_kind_of_vec_env(workdir, algo, env_id):
    train = ["train", "--algo", algo, "--env", env_id, "-n", "100", "--eval-freq", "-1", "-f", "subproc"]
    policy = ["policy:'CnnPolicy'"] if algo == "ppo" else []  # the zoo's own file for PPO
    result = command("rl_zoo3", *train, "--vec-env", "subproc", *TINY, *policy, cwd=workdir)
    assert "--vec-env subproc has no effect" in result.stdout
    folder = workdir / "subproc" / algo / f"{env_id}_1"
    assert [path.name for path in folder.glob("*monitor.csv")] == ["monitor.csv"]
    assert "native_vec_env" in (folder / env_id / "config.yml").read_text()


MASKED = """
import gymnasium as gym
from sb3_contrib.common.envs import InvalidActionEnvDiscrete

gym.register("Masked-v0", lambda **kwargs: InvalidActionEnvDiscrete(dim=20, n_invalid_actions=15, ep_length=20))
"""


ZOO = (sys.executable, "-m", "sb3_mdpo.zoo")


def test_masks_reach_training_evaluations_and_enjoy(tmp_path):
    """The environment raises an error at an action that is not allowed, which 15 of 20 are not."""
    (tmp_path / "masked_envs.py").write_text(MASKED)
    about = ["--algo", "maskable_mdpo", "--env", "Masked-v0", "--gym-packages", "masked_envs", "--num-threads", "1"]
    tiny = ["-params", "n_envs:4", "n_steps:32", "batch_size:32", "n_epochs:1"]
    evaluation = ["--eval-freq", "64", "--eval-episodes", "2", "--n-eval-envs", "1"]
    with_module = {"cwd": tmp_path, "PYTHONPATH": str(tmp_path)}
    started(*ZOO, "train", *about, "-n", "256", *tiny, *evaluation, **with_module)
    run_folder = tmp_path / "logs" / "maskable_mdpo" / "Masked-v0_1"
    assert MaskableMDPO.load(run_folder / "Masked-v0.zip").num_timesteps == 256
    assert np.load(run_folder / "evaluations.npz")["timesteps"].tolist() == [64, 128, 192, 256]
    output = started(*ZOO, "enjoy", *about, "-f", "logs", "--no-render", "-n", "60", **with_module).stdout
    assert "3 Episodes" in output


def test_trials_of_a_search_are_evaluated_with_masks():
    """Trials with hyperparameters of the sampler take too long."""

    def masked_env() -> VecEnv:
        return make_vec_env(partial(InvalidActionEnvDiscrete, dim=20, n_invalid_actions=15, ep_length=20), 1)

    for algo, kind in (("maskable_mdpo", MaskableTrialEvalCallback), ("mdpo", TrialEvalCallback)):
        used = exp_manager.ExperimentManager.objective.__wrapped__
        manager = SimpleNamespace(algo=algo)
        seen = _evaluating_with_masks(lambda self: exp_manager.TrialEvalCallback, exp_manager)(manager)
        assert seen is kind
        assert used is not exp_manager.ExperimentManager.objective
    callback = MaskableTrialEvalCallback(masked_env(), optuna.trial.FixedTrial({}), n_eval_episodes=1, eval_freq=16)
    env = make_vec_env(partial(InvalidActionEnvDiscrete, dim=20, n_invalid_actions=15, ep_length=20), 2)
    MaskableMDPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1).learn(64, callback=callback)
    assert callback.last_mean_reward > 0


def test_recurrent_members_train_and_enjoy(workdir):
    about = ["--algo", "recurrent_mdpo", "--env", "CartPoleNoVel-v1", "--device", "cpu", "--num-threads", "1"]
    tiny = ["-params", "n_envs:4", "n_epochs:1", "batch_size:32"]
    evaluation = ["--eval-freq", "64", "--eval-episodes", "2", "--n-eval-envs", "1"]
    command("rl_zoo3", "train", *about, "-n", "128", *tiny, *evaluation, cwd=workdir)
    run_folder = workdir / "logs" / "recurrent_mdpo" / "CartPoleNoVel-v1_1"
    model = RecurrentMDPO.load(run_folder / "CartPoleNoVel-v1.zip")
    assert model.policy.hidden_size == 64  # of recurrent_mdpo.yml
    assert (
        "Mean reward"
        in command("rl_zoo3", "enjoy", *about, "-f", "logs", "--no-render", "-n", "60", cwd=workdir).stdout
    )


def test_vec_env_subproc_on_other_environments(workdir):
    train = "rl_zoo3 train --algo mdpo --env Pendulum-v1 -n 100 -f pendulum --eval-freq -1 --vec-env subproc"
    command(*train.split(), "-params", "n_envs:2", "n_steps:50", "batch_size:50", cwd=workdir)
    assert (workdir / "pendulum" / "mdpo" / "Pendulum-v1_1" / "Pendulum-v1.zip").exists()


def test_optimize(workdir):
    search = "rl_zoo3 train --algo mdpo --env CartPole-v1 -n 100 -optimize --n-trials 2 --n-evaluations 1"
    options = "--eval-episodes 1 --sampler random --seed 6 --no-optim-plots -f search --num-threads 1"
    result = command(*search.split(), *options.split(), "-params", "n_envs:2", cwd=workdir)
    assert "distill_coef" in result.stdout
    (report,) = (workdir / "search" / "mdpo").glob("report_CartPole-v1_*.csv")
    trials = pd.read_csv(report)
    assert "params_distill_coef" in trials
    assert set(trials["state"]) == {"COMPLETE"}


@pytest.mark.parametrize("seed", range(20))
def test_search_space_is_always_valid_and_conversion_gives_the_same_arguments(seed):
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    arguments = sample_mdpo_params(trial, n_actions=2, n_envs=2, additional_args={})
    assert 0.01 <= arguments["distill_coef"] <= 10
    assert arguments["batch_size"] <= arguments["n_steps"]
    MDPO("MlpPolicy", "CartPole-v1", **arguments)
    assert convert_mdpo_params(trial.params) == arguments


def test_other_programs_keep_old_gyms_notice(tmp_path):
    silent = started(sys.executable, "-c", "import rl_zoo3.utils", cwd=tmp_path).stderr
    other = started(sys.executable, "-c", "import gym", cwd=tmp_path).stderr
    assert "Gym has been unmaintained" in other
    assert "Gym has been unmaintained" not in silent


def test_without_the_hook_mdpo_is_unknown_and_the_module_brings_it_back(workdir):
    no_hook = {"SB3_MDPO_NO_ZOO_HOOK": "1"}
    refused = started(str(Path(sys.executable).with_name("rl_zoo3")), *TRAIN, cwd=workdir, check=False, **no_hook)
    assert refused.returncode == 2
    assert "invalid choice: 'mdpo'" in refused.stderr
    module = [sys.executable, "-m", "sb3_mdpo.zoo"]
    started(*module, *TRAIN, *TINY, "--eval-freq", "-1", "-f", "explicit", cwd=workdir, **no_hook)
    video = f"python -m sb3_mdpo.zoo record_video --algo mdpo --env {ENV_ID} -f explicit -n 5"
    command(*video.split(), cwd=workdir)
    assert list((workdir / "explicit").rglob("*.mp4"))


def test_module_says_what_it_can_do(tmp_path):
    module = "python -m sb3_mdpo.zoo"
    result = run(f"{module} trian", tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("python -m sb3_mdpo.zoo: unknown command 'trian', use one of train, enjoy")
    assert "record_video" in run(f"{module} --help", tmp_path).stdout
    folder = run(f"{module} hyperparams", tmp_path).stdout.strip()
    assert yaml.safe_load((Path(folder) / "mdpo.yml").read_text())["default"]


@pytest.mark.parametrize("program", ["python -m sb3_mdpo.zoo", "rl_zoo3"])
def test_train_says_how_to_resume(program, tmp_path):
    result = run(f"{program} train --help", tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: {program} ")
    assert "--resume LOGDIR" in result.stdout
    hint = "to resume, type `python -m sb3_mdpo.zoo train --resume logs/mdpo/CartPole-v1_1`"
    for options in ("--device cpu --resume logs/mdpo/CartPole-v1_1", "--resume=logs/mdpo/CartPole-v1_1"):
        refused = run(f"{program} train {options}", tmp_path)
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert line.startswith(f"{program}")
        assert line.endswith(hint)
    assert list(tmp_path.iterdir()) == []


def test_training_does_not_import_what_the_plots_need(tmp_path):
    code = "import sys; from sb3_mdpo.zoo.__main__ import main; main(); print('seaborn' in sys.modules)"
    options = ["train", "--algo", "mdpo", "-n", "64", "--eval-freq", "-1", "-params"]
    tiny = ["n_envs:2", "n_steps:32", "batch_size:32", "n_epochs:1"]
    result = started(sys.executable, "-c", code, *options, *tiny, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "False"


def test_python_starts_without_torch_or_the_zoo(tmp_path):
    code = "import sys; print(sorted({'torch', 'rl_zoo3', 'typing', 'gymnasium'} & set(sys.modules)))"
    assert started(sys.executable, "-c", code, cwd=tmp_path).stdout == "[]\n"


def test_the_zoo_does_not_import_the_search_before_it_is_needed(tmp_path):
    code = "import sys, rl_zoo3.utils; print('maskable_mdpo' in rl_zoo3.utils.ALGOS, 'optuna' in sys.modules)"
    assert started(sys.executable, "-c", code, cwd=tmp_path).stdout == "True False\n"
