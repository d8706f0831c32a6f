"""A folder with one small valid file of every kind that this package reads."""

import io
import json
from collections import OrderedDict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.envs.native import make_levels
from sb3_mdpo.hub.normalization import statistics_to_json
from sb3_mdpo.lab.generalization.table import COLUMNS as EVALUATION_COLUMNS
from sb3_mdpo.lab.study.config import parse_study
from sb3_mdpo.lab.study.runs import plan_runs
from sb3_mdpo.persistence.checkpoints.archive import Snapshot, write
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
ARGS = {
    "algo": "mdpo",
    "conf_file": "c.yml",
    "device": "cpu",
    "env": GRID,
    "env_kwargs": None,
    "gym_packages": [],
    "n_timesteps": -1,
    "seed": 1,
    "vec_env": "dummy",
}
CONFIG = {
    "vec_env_wrapper": "sb3_mdpo.envs.native_vec_env",
    "batch_size": 16,
    "env_kwargs": {"num_levels": 20},
    "n_envs": 2,
    "n_steps": 16,
    "n_timesteps": 64,
    "normalize": False,
    "policy": "StridedCnnPolicy",
    "policy_kwargs": "dict(features_extractor_kwargs=dict(features_dim=8))",
}

SHARED_ARGS = {key: ARGS[key] for key in ("algo", "env", "gym_packages", "seed")} | {"env_kwargs": {"num_levels": 20}}
SHARED_CONFIG = {"vec_env_wrapper": "sb3_mdpo.envs.native_vec_env", "normalize": True}


def ordered(document: Any) -> bytes:
    """:return: a document as the zoo writes it, with Python's own type at the top"""
    top = OrderedDict(sorted(document.items(), key=str)) if isinstance(document, dict) else document
    return yaml.dump(top).encode(errors="surrogatepass")


def to_export(document: Any) -> bytes:
    """:return: the configuration of an export: plain JSON"""
    content = document if isinstance(document, dict) else {"settings": document}
    return json.dumps(content, skipkeys=True).replace("NaN", "0").replace("Infinity", "1").encode()


@cache
def models() -> dict[str, bytes]:
    """:return: models of MDPO and PPO, as small as they can be"""
    kwargs: dict[str, Any] = {
        "n_steps": 16,
        "batch_size": 16,
        "device": "cpu",
        "policy_kwargs": {"features_extractor_kwargs": {"features_dim": 4, "channels": [2]}, "net_arch": []},
    }
    env = make_levels(GRID, 2, 0, num_levels=20)
    saved = {}
    for name, algorithm in (("mdpo", MDPO), ("ppo", PPO)):
        policy = "StridedCnnPolicy" if name == "mdpo" else MDPO.policy_aliases["StridedCnnPolicy"]
        file = io.BytesIO()
        algorithm(policy, env, **kwargs).save(file)
        saved[name] = file.getvalue()
    env.close()
    return saved


@cache
def _exported() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        MDPO.load(io.BytesIO(models()["mdpo"]), device="cpu").export(Path(folder) / "export")
        return {path.name: path.read_bytes() for path in (Path(folder) / "export").iterdir()}


def _statistics() -> bytes:
    env = VecNormalize(make_levels(GRID, 2, 0, num_levels=20), norm_obs=False)
    env.close()
    return statistics_to_json(env).encode()


def _checkpoint() -> bytes:
    with TemporaryDirectory() as folder:
        return write(Path(folder), Snapshot(32, 1, 0.5, {}, [], b"", {}, {}, {})).read_bytes()


def _evaluations() -> bytes:
    results = synthetic_results(["mdpo"], [3], ["procgen-coinrun-hard-v0"], [100, 200])
    return results.reindex(columns=EVALUATION_COLUMNS).to_csv(index=False).encode()


def _study_results() -> bytes:
    """Of the study and of a game that papers have."""
    results = synthetic_results(["mdpo", "ppo"], [0, 1], steps=[100, 200])
    return results.replace({"env_id": {BIGFISH: GRID}}).to_csv(index=False).encode()


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, timesteps=np.array([10, 20]), results=np.ones((2, 3)), ep_lengths=np.ones((2, 3)))
    return file.getvalue()


def _files() -> dict[str, bytes]:
    mdpo, ppo = models()["mdpo"], models()["ppo"]
    policies = ["policy 0", "policy 1"]
    monitor = b'#{"t_start": 1.0, "env_id": "None"}\nr,l,t\n1.0,10,0.1\n0.5,12,0.2\n'
    settings = {"args.yml": ordered(ARGS), "config.yml": ordered(CONFIG), "command.txt": b"python train.py --seed 1"}
    files = {f"{run}/{GRID}/{name}": content for run in (RUN, PLAIN_RUN) for name, content in settings.items()}
    files |= {f"{run}/{GRID}.zip": mdpo for run in (RUN, PLAIN_RUN)}
    (run, *_) = plan_runs(parse_study(STUDY, "small"))
    return files | {
        f"{RUN}/best_model.zip": mdpo,
        f"{RUN}/generalization.csv": _evaluations(),
        f"{RUN}/robustness.json": json.dumps(synthetic_robustness(policies, 0.1)).encode(),
        f"{RUN}/features.json": json.dumps(synthetic_features(policies, 0.1)).encode(),
        f"{PLAIN_RUN}/0.monitor.csv": monitor,
        f"{PLAIN_RUN}/evaluations.npz": _npz(),
        CHECKPOINT: _checkpoint(),
        **{f"export/{name}": content for name, content in _exported().items()},
        "study.yml": yaml.safe_dump(STUDY, sort_keys=False).encode(),
        f"{STUDY_RUN}/generalization.csv": _evaluations(),
        f"{STUDY_RUN}/run.yml": yaml.safe_dump(run.conf).encode(),
        "results/results.csv": _study_results(),
        "mdpo.zip": mdpo,
        "ppo.zip": ppo,
        **{f"snapshot/{name}": content for name, content in _exported().items()},
        "snapshot/vec_normalize.json": _statistics(),
        "snapshot/args.yml": yaml.safe_dump(SHARED_ARGS).encode(),
        "snapshot/config.yml": yaml.safe_dump(SHARED_CONFIG).encode(),
    }


@cache
def valid_files() -> dict[str, bytes]:
    """:return: path -> content of the folder's files"""
    return _files()


def make_workspace(folder: Path) -> None:
    """:param folder: where to write the files"""
    for name, content in valid_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
