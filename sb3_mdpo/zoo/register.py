"""Patches of the zoo's modules, applied by the start-up hook when they are imported."""

import argparse
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from sb3_mdpo.envs.native import UNSEEN_LEVELS, is_native
from sb3_mdpo.utils.terminal import one_line

NATIVE = {"vec_env_wrapper": "sb3_mdpo.envs.native_vec_env"}


def hyperparams_folder() -> Path:
    """The folder of the hyperparameter files: in the package (wheel) or next to it (checkout)."""
    package = Path(__file__).parents[1]
    inside = package / "hyperparams"
    return inside if inside.is_dir() else package.parent / "hyperparams"


def adapted(
    original: Callable[..., Any],
    adapt: Callable[[dict[str, Any]], None],
    finish: Callable[[Any], Any] = lambda result: result,
) -> Callable[..., Any]:
    """
    A function of the zoo that lets ``adapt`` change the arguments of every call in place: a dict by name, including
    defaults, and ``finish`` the result. A function that is already adapted is returned unchanged.
    """
    if hasattr(original, "__wrapped__"):
        return original

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(original).bind(*args, **kwargs)
        bound.apply_defaults()
        adapt(bound.arguments)
        return finish(original(*bound.args, **bound.kwargs))

    return call


def extend_utils(utils: Any) -> None:
    """Register the algorithms in ``rl_zoo3.utils``, and let ``enjoy`` and ``record_video`` use the native engines."""
    from sb3_mdpo.zoo.masks import PlayedMaskableMDPO, play_in
    from sb3_mdpo.zoo.own import OWN

    utils.ALGOS |= OWN | {PlayedMaskableMDPO.algorithm: PlayedMaskableMDPO}
    utils.create_test_env = adapted(utils.create_test_env, _adapt_test_env, play_in)


def _adapt_test_env(arguments: dict[str, Any]) -> None:
    if is_native(arguments["env_id"]):
        from stable_baselines3.common.vec_env import DummyVecEnv

        from sb3_mdpo.zoo.hyperparams import with_level_shares

        hyperparams = NATIVE | (arguments["hyperparams"] or {})
        # These environments belong to no policy
        arguments["hyperparams"] = hyperparams | {
            "vec_env_wrapper": with_level_shares(hyperparams["vec_env_wrapper"], 1)
        }
        arguments["vec_env_cls"] = DummyVecEnv  # for the environments that the native engine replaces


class _Resume(argparse.Action):
    """``--resume`` in the zoo's own parser, which cannot resume: says what to type."""

    def __call__(self, parser: argparse.ArgumentParser, _: Any, folder: Any, option: str | None = None) -> None:
        parser.exit(2, f"{parser.prog}: to resume, type `python -m sb3_mdpo.zoo train --resume {one_line(folder)}`\n")


class _TrainParser(argparse.ArgumentParser):
    def __init__(self) -> None:
        super().__init__()
        self.add_argument(
            "--resume",
            metavar="LOGDIR",
            action=_Resume,
            default=argparse.SUPPRESS,  # args.yml holds the zoo's own arguments
            help="Resume an interrupted run: python -m sb3_mdpo.zoo train --resume LOGDIR, with --help for its options",
        )

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        if names == ("--algo",):  # also the dotted name of a class
            from rl_zoo3.utils import ALGOS

            from sb3_mdpo.zoo.algorithms import registered

            options |= {"type": registered, "choices": ALGOS}
        return super().add_argument(*names, **options)


def extend_train(train: Any) -> None:
    """Let ``rl_zoo3.train`` show ``--resume`` in its help, and take the dotted name of a class as ``--algo``."""
    train.argparse = SimpleNamespace(**vars(argparse) | {"ArgumentParser": _TrainParser})


def register_search(hyperparams_opt: Any) -> None:
    """Register the search spaces in ``rl_zoo3.hyperparams_opt``."""
    from sb3_mdpo.zoo.hyperparams import convert_mdpo_params, sample_mdpo_params
    from sb3_mdpo.zoo.own import OWN

    hyperparams_opt.HYPERPARAMS_SAMPLER |= dict.fromkeys(OWN, sample_mdpo_params)
    hyperparams_opt.HYPERPARAMS_CONVERTER |= dict.fromkeys(OWN, convert_mdpo_params)


def extend_experiments(exp_manager: Any) -> None:
    """Patch ``rl_zoo3.exp_manager`` for ``mdpo.yml``, hyperparameters as text, native engines and unseen levels."""
    from sb3_mdpo.zoo.hyperparams import preprocess_hyperparams

    manager = exp_manager.ExperimentManager
    manager.__init__ = adapted(manager.__init__, _adapt_experiment)
    manager._preprocess_schedules = staticmethod(
        adapted(manager._preprocess_schedules, lambda arguments: preprocess_hyperparams(arguments["hyperparams"]))
    )
    original = manager.read_hyperparameters
    if hasattr(original, "__wrapped__"):
        return
    manager._maybe_normalize = _normalizing_per_policy(manager._maybe_normalize)
    manager.create_callbacks = _evaluating_with_masks(manager.create_callbacks, exp_manager)
    manager.objective = _evaluating_with_masks(manager.objective, exp_manager)
    manager.create_envs = _writing_episodes_here(manager.create_envs)

    @functools.wraps(original)
    def read_hyperparameters(self: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        hyperparams, saved_hyperparams = original(self)
        if is_native(self.env_name.gym_id):
            hyperparams, saved_hyperparams = NATIVE | hyperparams, NATIVE | saved_hyperparams
            self.deterministic_eval = False  # the paper samples actions; greedy Procgen policies get stuck
        return hyperparams, saved_hyperparams

    manager.read_hyperparameters = read_hyperparameters


def _evaluating_with_masks(original: Callable[..., Any], exp_manager: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any) -> Any:
        if self.algo != "maskable_mdpo":
            return original(self, *args)
        from sb3_mdpo.zoo.masked_evaluation import CALLBACKS

        with patch.multiple(exp_manager, **CALLBACKS):
            return original(self, *args)

    return call


def _normalizing_per_policy(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def maybe_normalize(self: Any, env: Any, eval_env: bool) -> Any:
        from sb3_mdpo.envs import MutualVecNormalize

        kwargs = self.normalize_kwargs
        n_policies = kwargs.get("n_policies")
        self.normalize_kwargs = {name: value for name, value in kwargs.items() if name != "n_policies"}
        normalized = original(self, env, eval_env)
        self.normalize_kwargs = kwargs
        if n_policies is None or isinstance(normalized, MutualVecNormalize):  # the latter from the file of an agent
            return normalized
        return MutualVecNormalize.from_shared(normalized, n_policies)

    return maybe_normalize


def _writing_episodes_here(original: Callable[..., Any]) -> Callable[..., Any]:
    """With ``--vec-env subproc`` and checkpoints, this process writes the episodes, to restore their file."""

    @functools.wraps(original)
    def create_envs(self: Any, n_envs: int, eval_env: bool = False, no_log: bool = False) -> Any:
        from stable_baselines3.common.vec_env import SubprocVecEnv

        from sb3_mdpo.envs.subproc import MonitoredSubprocVecEnv
        from sb3_mdpo.persistence.checkpoints.callback import ResumableCheckpointCallback

        is_resumable = any(isinstance(callback, ResumableCheckpointCallback) for callback in self.callbacks)
        if eval_env or no_log or not is_resumable or self.vec_env_class is not SubprocVecEnv:
            return original(self, n_envs, eval_env, no_log)

        def make(env_fns: list[Callable[[], Any]], **kwargs: Any) -> MonitoredSubprocVecEnv:
            keys = [*self.monitor_kwargs.get("reset_keywords", ()), *self.monitor_kwargs.get("info_keywords", ())]
            about = {"monitor_dir": self.save_path, "env_id": self.env_name.gym_id, "extra_keys": keys}
            return MonitoredSubprocVecEnv(env_fns, **about, **kwargs)

        self.vec_env_class = make
        try:
            return original(self, n_envs, eval_env, no_log=True)
        finally:
            self.vec_env_class = SubprocVecEnv

    return create_envs


def _adapt_experiment(arguments: dict[str, Any]) -> None:
    from sb3_mdpo.zoo.own import OWN

    if arguments["algo"] in OWN and not arguments["config"]:
        arguments["config"] = str(hyperparams_folder() / f"{arguments['algo']}.yml")
    config = arguments["config"]
    if isinstance(config, str) and not Path(config).exists() and (hyperparams_folder() / config).is_file():
        arguments["config"] = str(hyperparams_folder() / config)
    if not is_native(arguments["env_id"]):
        return
    env_kwargs = arguments["env_kwargs"]
    if env_kwargs and "num_levels" not in env_kwargs:
        print("--env-kwargs replaces those of the hyperparameter file: without num_levels, training is on all levels.")
    # The zoo would also pass them to the evaluation, which then measures training levels
    if env_kwargs and not arguments["eval_env_kwargs"]:
        arguments["eval_env_kwargs"] = env_kwargs | UNSEEN_LEVELS
    # Neither the native engine nor the single environments that it replaces need processes
    if arguments["vec_env_type"] == "subproc":
        print("The native engine steps all environments itself: --vec-env subproc has no effect.")
        arguments["vec_env_type"] = "dummy"
