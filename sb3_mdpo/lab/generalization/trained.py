"""Trained models: run folders of the zoo, or saved models."""

from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.save_util import read_plain_settings
from sb3_mdpo.envs.native import make_levels
from sb3_mdpo.lab.generalization.callback import GeneralizationEvalCallback
from sb3_mdpo.lab.generalization.evaluation import check_has_levels
from sb3_mdpo.persistence.ppo_conversion import load_ppo
from sb3_mdpo.zoo.algorithms import algorithm_class
from sb3_mdpo.zoo.hyperparams import callbacks_of, read_callback
from sb3_mdpo.zoo.run import Run, read_run

DEFAULT_SEED: int = signature(GeneralizationEvalCallback).parameters["seed"].default


@dataclass(frozen=True)
class TrainedModel:
    """
    A model and its training environment.

    :param model: the model
    :param env_id: Gymnasium id, of an environment that :func:`~sb3_mdpo.envs.native.has_levels`
    :param path: run folder or file
    :param env_kwargs: arguments of the training environments; empty for a file, which does not store them
    :param run: its run of the zoo, None for a file
    """

    model: OnPolicyAlgorithm
    env_id: str
    path: Path
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    run: Run | None = None

    @property
    def selection_seed(self) -> int | None:
        """See :func:`selection_seed`."""
        return None if self.run is None else selection_seed(self.run)

    def make_env(self, n_envs: int, seed: int | None = None, **env_kwargs: Any) -> VecEnv:
        """
        :param n_envs: number of environments
        :param seed: their seed
        :param env_kwargs: arguments that replace those of the training environments
        :return: environments like the training environments, for a run of the zoo with its wrappers and normalization
            statistics; rewards are not normalized
        """
        kwargs = self.env_kwargs | env_kwargs
        if self.run is not None:
            return self.run.make_env(kwargs, n_envs, 0 if seed is None else seed)
        return make_levels(self.env_id, n_envs, seed, **kwargs)


def selection_seed(run: Run) -> int | None:
    """
    Seed of the evaluations on unseen levels that chose the best model of a run. On these levels its return is too high.
    None for other models.
    """
    for name, arguments in map(read_callback, callbacks_of(run.hyperparams)) if run.is_best else ():
        if name == GeneralizationEvalCallback.__name__:
            return int(arguments.get("seed", DEFAULT_SEED))
    return None


def evaluation_seed(path: Path, selection: int | None, given: int | None) -> int:
    """The given seed, by default one with other levels than those that chose the best model, which are refused."""
    seed = int(selection == 0) if given is None else given
    if selection == seed:
        raise ValueError(
            f"The best model of {path} was chosen by its return on the levels of seed {selection}, which is too "
            "high on them: leave --seed out, or use another."
        )
    return seed


def check_device(device: th.device | str) -> None:
    """Raise ValueError if PyTorch does not know the device."""
    try:
        get_device(device)
    except RuntimeError as error:
        raise ValueError(f"PyTorch knows no device {device}: use auto, cpu, cuda or cuda:1, for example.") from error


def open_trained(
    path: str | Path, env_id: str | None = None, load_best: bool = False, device: th.device | str = "auto"
) -> TrainedModel:
    """
    Open a trained model. Like all of SB3's files it can execute code: only open files that you trust.

    :param path: run folder of ``rl_zoo3 train``, e.g. ``logs/mdpo/procgen-coinrun-easy-v0_1``, or a file that
        MDPO's or PPO's ``save()`` wrote
    :param env_id: Gymnasium id of the environment; only needed for a file
    :param load_best: use the ``best_model.zip`` of a run instead of its last model
    :param device: PyTorch device
    :return: the model
    :raises ValueError: if there is no model, its environment has no levels to choose from, or PyTorch does not know
        the device
    """
    check_device(device)
    path = Path(path)
    run = None
    if path.is_file():
        if env_id is None:
            raise ValueError(f"{path} does not say what it was trained on: pass its environment's id as well (--env).")
        if load_best:
            raise ValueError(f"{path} is a model: load_best is for run folders.")
        settings = read_plain_settings(path)
        if not {"n_epochs", "clip_range"} <= settings.keys():
            raise ValueError(f"{path} was not saved by MDPO or PPO: use a model of one of them.")
        algo = str(settings.get("saved_by", "mdpo")) if "n_policies" in settings else "ppo"
        model_path = path
        env_kwargs: dict[str, Any] = {}
    else:
        run = read_run(path, load_best)
        if env_id not in (None, run.env_id):
            raise ValueError(f"{path} is a run on {run.env_id}, not on {env_id}: leave the id out.")
        env_id, model_path, algo, env_kwargs = run.env_id, run.model_path, run.algo, run.env_kwargs
    check_has_levels(env_id)
    load = load_ppo if algo == "ppo" else algorithm_class(algo).load
    return TrainedModel(load(model_path, device=device), env_id, path, env_kwargs, run)
