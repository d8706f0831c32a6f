"""A folder with one small valid file of every kind that this package reads, written by the package where it can be."""

import io
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.callbacks import GeneralizationEvalCallback, ResumableCheckpointCallback
from sb3_mdpo.cli.main import main
from sb3_mdpo.envs import TexturedGridVecEnv
from tests.support.hub_server import Commit, HubServer, Repository
from tests.support.inputs import to_yaml
from tests.support.results import BIGFISH, synthetic_features, synthetic_results, synthetic_robustness

GRID = "TexturedGrid-v0"
RUN = f"logs/mdpo/{GRID}_1"
PLAIN_RUN = f"logs/mdpo/{GRID}_2"  # without evaluations on its levels
SETTINGS = f"{RUN}/{GRID}"
CHECKPOINT = f"{RUN}/checkpoints/checkpoint_000000000032.zip"
STUDY: dict[str, Any] = {
    "name": "small",
    "environments": [GRID],
    "num_levels": [20],
    "methods": ["mdpo", {"name": "ppo", "method": "ppo", "hyperparams": {"gamma": 0.99}}],
    "seeds": [3, 4],
    "timesteps": 2048,
    "hyperparams": {"n_envs": 8, "n_steps": 64, "batch_size": 256},
    "evaluation": {"freq": 1024, "episodes": 4, "n_envs": 4, "deterministic": False},
    "jobs": 1,
    "threads": 1,
    "device": "cpu",
    "resources": {"cpus": 1, "gpus": 0.25, "retries": 2},
}
STUDY_RUN = f"studies/small/{GRID}_20_mdpo_3"
ARGS = OrderedDict(algo="mdpo", conf_file="c.yml", device="cpu", env=GRID, env_kwargs=None, gym_packages=[])
ARGS |= {"n_timesteps": -1, "seed": 1, "vec_env": "dummy"}
CONFIG = OrderedDict(vec_env_wrapper="sb3_mdpo.envs.native_vec_env", env_kwargs={"num_levels": 20})
CONFIG |= {"n_envs": 2, "n_steps": 16, "batch_size": 16, "n_timesteps": 64, "normalize": {"norm_obs": False}}
CONFIG |= {"policy": "StridedCnnPolicy", "policy_kwargs": "dict(features_extractor_kwargs=dict(features_dim=8))"}


class SharedFolder(Repository):
    """A repository that holds what is in the folder ``snapshot`` when it is asked."""

    def find(self, revision: str) -> Commit | None:
        files = {path.name: path.read_bytes() for path in sorted(Path("snapshot").iterdir()) if path.is_file()}
        commit = Commit("by hand", files)
        return commit if revision in ("main", commit.sha) else None


@contextmanager
def stand_in_for_the_hub() -> Iterator[HubServer]:
    """In this context huggingface_hub talks to a server on this machine."""
    disable_progress_bars()
    with HubServer() as hub, patch.dict(os.environ, HF_TOKEN="hf_dummy", NO_PROXY="127.0.0.1"):
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        with patch.multiple(constants, ENDPOINT=hub.url, HUGGINGFACE_CO_URL_TEMPLATE=template):
            yield hub


@contextmanager
def working_folder(folder: str | Path) -> Iterator[None]:
    """:param folder: the working folder in this context"""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _write(file: str | Path, content: bytes) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_bytes(content)


def _train() -> None:
    """A run with its model, checkpoint and evaluations, and a model of PPO, as small as they can be."""
    policy_kwargs = {"features_extractor_kwargs": {"features_dim": 4, "channels": [2]}, "net_arch": []}
    kwargs: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu", "verbose": 0}
    env = VecNormalize(TexturedGridVecEnv(2, num_levels=20), norm_obs=False)
    mdpo = MDPO("StridedCnnPolicy", env, policy_kwargs=policy_kwargs, seed=0, **kwargs)
    evaluating = GeneralizationEvalCallback(16, episodes=2, n_envs=2, log_path=RUN, verbose=0)
    mdpo.learn(32, [ResumableCheckpointCallback(f"{RUN}/checkpoints", keep=1, verbose=0), evaluating])
    for model in ("mdpo", f"{RUN}/{GRID}", f"{PLAIN_RUN}/{GRID}", f"{RUN}/best_model"):
        mdpo.save(model)
    env.save(f"{SETTINGS}/vecnormalize.pkl")
    mdpo.export("export")
    PPO(MDPO.policy_aliases["StridedCnnPolicy"], env, policy_kwargs=policy_kwargs, **kwargs).save("ppo")
    env.close()


def _write_all() -> None:
    for run in (RUN, PLAIN_RUN):
        _write(f"{run}/{GRID}/args.yml", to_yaml(ARGS))
        _write(f"{run}/{GRID}/config.yml", to_yaml(CONFIG))
        _write(f"{run}/{GRID}/command.txt", b"python train.py --seed 1")
        _write(f"{run}/frames.png", b"")  # nothing need be played for a report
    _train()
    with stand_in_for_the_hub() as hub:
        main(["push", RUN, "a/b", "--episodes", "2", "--n-envs", "2", "--device", "cpu"])
        for name, content in hub.repositories["a/b"].files.items():
            _write(f"snapshot/{name}", content)
    policies = ["policy 0", "policy 1"]
    _write(f"{RUN}/robustness.json", json.dumps(synthetic_robustness(policies, 0.1, 32)).encode())
    _write(f"{RUN}/features.json", json.dumps(synthetic_features(policies, 0.1, 32)).encode())
    _write(f"{PLAIN_RUN}/0.monitor.csv", b'#{"t_start": 1.0, "env_id": "None"}\nr,l,t\n1.0,10,0.1\n0.5,12,0.2\n')
    evaluations = io.BytesIO()
    np.savez(evaluations, timesteps=np.array([10, 20]), results=np.ones((2, 3)), ep_lengths=np.ones((2, 3)))
    _write(f"{PLAIN_RUN}/evaluations.npz", evaluations.getvalue())
    _write("study.yml", to_yaml(STUDY))
    results = synthetic_results(["mdpo", "ppo"], [0, 1], steps=[100, 200])
    # Of the study's environment and of a game that papers have
    _write("results/results.csv", results.replace({"env_id": {BIGFISH: GRID}}).to_csv(index=False).encode())


def _write_study_run() -> None:
    """The settings that ``study run`` writes before it starts a training, and evaluations, as a complete run."""
    with patch("subprocess.Popen.__init__", side_effect=KeyboardInterrupt), suppress(SystemExit):
        main(["study", "run", "study.yml"])
    (begun,) = Path("studies").rglob(f"{Path(STUDY_RUN).name}/run.yml")
    settings = begun.read_bytes()
    shutil.rmtree("studies")
    _write(f"{STUDY_RUN}/run.yml", settings)
    for name in ("generalization.csv", f"{GRID}.zip"):
        _write(f"{STUDY_RUN}/{name}", Path(RUN, name).read_bytes())


@cache
def valid_files() -> dict[str, bytes]:
    """Path -> content."""
    silence = io.StringIO()
    with TemporaryDirectory() as folder, working_folder(folder), redirect_stdout(silence), redirect_stderr(silence):
        _write_all()
        _write_study_run()
        return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def make_workspace(folder: Path) -> None:
    for name, content in valid_files().items():
        _write(folder / name, content)
