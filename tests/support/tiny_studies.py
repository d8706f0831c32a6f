"""A study of two short runs on the textured grid, and the models that its runs train."""

from pathlib import Path
from typing import Any

from rl_zoo3.utils import get_class_by_name

from sb3_mdpo.envs import make_levels
from sb3_mdpo.lab.study.config import parse_study
from sb3_mdpo.lab.study.runs import PlannedRun, plan_runs
from sb3_mdpo.zoo.algorithms import algorithm_class
from sb3_mdpo.zoo.hyperparams import preprocess_hyperparams
from tests.support.studies import write_study

GRID = "TexturedGrid-v0"
# Two and four updates of the file's grid agent, on less of everything
TINY: dict[str, Any] = {
    "name": "tiny",
    "environments": [GRID],
    "num_levels": [8],
    "methods": ["mdpo", "ppo"],
    "seeds": [0],
    "timesteps": 512,
    "hyperparams": {"n_envs": 8, "n_steps": 32, "batch_size": 32, "n_epochs": 1},
    "evaluation": {"freq": 256, "episodes": 4, "n_envs": 4},
    "jobs": 2,
    "device": "cpu",
}


def write(path: Path, **changes: Any) -> Path:
    return write_study(path, TINY | changes)


def runs_of(**changes: Any) -> list[PlannedRun]:
    return plan_runs(parse_study(TINY | changes, "x"))


def make_model(run: PlannedRun, **changes: Any) -> Any:
    """The model that the zoo makes of a run's hyperparameters."""
    hyperparams = {key: value for key, value in run.hyperparams.items() if key not in ("callback", "n_timesteps")}
    del hyperparams["vec_env_wrapper"]
    hyperparams["policy_kwargs"] = eval(hyperparams.get("policy_kwargs", "{}"))
    preprocess_hyperparams(hyperparams)
    env = make_levels(run.env_id, hyperparams.pop("n_envs"), 0, **hyperparams.pop("env_kwargs"))
    if "." in hyperparams["policy"]:
        hyperparams["policy"] = get_class_by_name(hyperparams["policy"])
    return algorithm_class(run.algo)(env=env, device="cpu", **hyperparams | changes)
