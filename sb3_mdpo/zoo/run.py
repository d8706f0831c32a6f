"""A run folder of the zoo, and its environments."""

from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from rl_zoo3 import import_envs, utils  # noqa: F401
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_mdpo.utils.yaml_files import read_mapping, read_text
from sb3_mdpo.zoo.algorithms import algorithm_class
from sb3_mdpo.zoo.hook import install

ARGS, CONFIG, COMMAND = "args.yml", "config.yml", "command.txt"


@dataclass(frozen=True)
class Run:
    """A complete run of ``rl_zoo3 train``."""

    settings: Path  #: folder inside the run's folder with its configuration, named after the environment
    model_path: Path
    args: dict[str, Any]  #: of ``rl_zoo3 train``
    hyperparams: dict[str, Any]  #: of ``config.yml``
    env_kwargs: dict[str, Any]  #: of the training environments

    @property
    def folder(self) -> Path:
        return self.settings.parent

    @property
    def algo(self) -> str:
        return str(self.args["algo"])

    @property
    def env_id(self) -> str:
        return str(self.args["env"])

    @property
    def is_best(self) -> bool:
        return self.model_path.name == "best_model.zip"

    @property
    def command(self) -> str:
        return read_text(self.settings / COMMAND)

    def make_env(self, env_kwargs: dict[str, Any], n_envs: int, seed: int) -> VecEnv:
        """As ``rl_zoo3 enjoy`` does: with wrappers, fixed statistics, unnormalised rewards and frame stacks."""
        install()
        env: VecEnv = utils.create_test_env(
            self.env_id,
            n_envs=n_envs,
            stats_path=str(self.settings),
            seed=seed,
            should_render=False,
            hyperparams=deepcopy(self.hyperparams),  # changed by the zoo
            env_kwargs=env_kwargs,
            vec_env_cls=DummyVecEnv,
        )
        return env


def read_run(folder: Path, load_best: bool = False, algos: Collection[str] | None = None) -> Run:
    """
    Read a run that was trained on this machine. Like the zoo, this executes Python code named in its files.

    :param folder: run folder of ``rl_zoo3 train``, e.g. ``logs/mdpo/CartPole-v1_1``
    :param load_best: whether to use the best model of the evaluations during training instead of the last one
    :param algos: allowed algorithms, by default those that are on-policy
    """
    settings = settings_folder(folder)
    args = read_args(settings / ARGS)
    if algos is None:
        try:
            algorithm_class(args["algo"])
        except ValueError as error:
            raise ValueError(f"{folder} is a run of {args['algo']}: {error}.") from error
    elif args["algo"] not in algos:
        raise ValueError(f"{folder} is a run of {args['algo']}: give the folder of a run of {' or '.join(algos)}.")
    if utils.EnvironmentName(args["env"]) != settings.name:
        raise ValueError(f"{settings / ARGS} is of {args['env']}, which is not what its folder is named after.")
    model_path = folder / ("best_model.zip" if load_best else f"{settings.name}.zip")
    if not model_path.is_file():
        reason = "train with --eval-freq, or leave out --load-best" if load_best else "the training has not finished"
        raise ValueError(f"There is no {model_path}: {reason}.")
    hyperparams = read_hyperparams(settings)
    _import_environment(settings / ARGS, args)
    # As in rl_zoo3 enjoy, arguments on the command line replace those of the file
    env_kwargs = hyperparams.get("env_kwargs") or {} if args["env_kwargs"] is None else args["env_kwargs"]
    if not isinstance(env_kwargs, dict):
        raise ValueError(f"{settings}: env_kwargs must be a mapping, not {env_kwargs!r}.")
    for name in ("num_levels", "start_level"):
        value = env_kwargs.get(name, 0)
        if type(value) is not int or value < 0:
            raise ValueError(f"{settings}: {name} must be an integer of at least 0, not {value!r}.")
    return Run(settings, model_path, args, hyperparams, dict(env_kwargs))


def read_args(path: Path) -> dict[str, Any]:
    """Arguments of ``rl_zoo3 train`` in the ``args.yml`` of a local run."""
    args = read_mapping(path, yaml.UnsafeLoader)
    kinds = {"algo": str, "env": str, "env_kwargs": dict | None, "gym_packages": list, "seed": int}
    for name, kind in kinds.items():
        if not (name in args and isinstance(args[name], kind)):  # type: ignore[arg-type]
            given = repr(args[name]) if name in args else "nothing"
            raise ValueError(f"{path} is not what rl_zoo3 train wrote: it has {given} for {name}.")
    if not all(isinstance(package, str) for package in args["gym_packages"]):
        raise ValueError(f"{path}: gym_packages must be names of modules, not {args['gym_packages']!r}.")
    return args


def read_hyperparams(settings: Path) -> dict[str, Any]:
    """Hyperparameters with the settings of the statistics, as read by ``rl_zoo3 enjoy``."""
    path = settings / CONFIG
    normalize = read_mapping(path, yaml.UnsafeLoader).get("normalize", False)
    if not isinstance(normalize, bool | str | dict):
        raise ValueError(f"{path}: normalize must be true, false, a mapping or one as text, not {normalize!r}.")
    try:
        hyperparams, _ = utils.get_saved_hyperparams(str(settings))
    except (SyntaxError, NameError, TypeError, ValueError, AttributeError) as error:  # the zoo evaluates this text
        raise ValueError(f"{path}: normalize is {normalize!r}, which cannot be evaluated ({error}).") from error
    return dict(hyperparams)


def settings_folder(folder: Path) -> Path:
    """The subfolder with the settings of a run folder of ``rl_zoo3 train``."""
    if not folder.is_dir():
        raise ValueError(
            f"There is no folder {folder}: give a run folder of rl_zoo3 train, e.g. logs/mdpo/CartPole-v1_1."
        )
    needed = (CONFIG, ARGS, COMMAND)
    found = [path for path in sorted(folder.iterdir()) if all((path / name).is_file() for name in needed)]
    if len(found) != 1:
        raise ValueError(
            f"{folder} is not a run folder of rl_zoo3 train: {len(found)} folders in it hold {', '.join(needed)}, "
            "not one. Give one like logs/mdpo/CartPole-v1_1."
        )
    return found[0]


def _import_environment(path: Path, args: dict[str, Any]) -> None:
    try:
        for package in args["gym_packages"]:
            import_module(package)
        gym.spec(args["env"])
    except (ImportError, ValueError, gym.error.Error) as error:
        raise ValueError(f"{path}: the environment {args['env']} cannot be made here: {error}") from error
