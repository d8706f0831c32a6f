"""What MDPO adds to the zoo's modules; called by the start-up hook as they are imported."""

import functools
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import sb3_mdpo

UNSEEN_LEVELS = {"num_levels": 0, "start_level": 0}


def hyperparams_folder() -> Path:
    """
    :return: where the hyperparameter files are: in the package (wheel) or beside it (checkout)
    """
    package = Path(sb3_mdpo.__file__).parent
    inside = package / "hyperparams"
    return inside if inside.is_dir() else package.parent / "hyperparams"


def register_algorithm(utils: ModuleType) -> None:
    """
    :param utils: ``rl_zoo3.utils``, whose dict of algorithms all of the zoo's modules share
    """
    from sb3_mdpo.mdpo import MDPO  # registers the Procgen ids on the way

    utils.ALGOS["mdpo"] = MDPO


def register_search(hyperparams_opt: ModuleType) -> None:
    """
    :param hyperparams_opt: ``rl_zoo3.hyperparams_opt``
    """
    from sb3_mdpo.zoo.hyperparams_opt import convert_mdpo_params, sample_mdpo_params

    hyperparams_opt.HYPERPARAMS_SAMPLER["mdpo"] = sample_mdpo_params
    hyperparams_opt.HYPERPARAMS_CONVERTER["mdpo"] = convert_mdpo_params


def extend_experiments(exp_manager: ModuleType) -> None:
    """
    Teach the experiment manager where ``mdpo.yml`` is and how Procgen is evaluated.

    :param exp_manager: ``rl_zoo3.exp_manager``
    """
    manager = exp_manager.ExperimentManager
    original = manager.__init__
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        call = inspect.signature(original).bind(self, *args, **kwargs)
        call.apply_defaults()
        arguments = call.arguments
        if arguments["algo"] == "mdpo" and not arguments["config"]:
            arguments["config"] = str(hyperparams_folder() / "mdpo.yml")
        is_procgen = arguments["env_id"].startswith("procgen-")
        if is_procgen:
            _adapt_to_procgen(arguments)
        original(*call.args, **call.kwargs)
        if is_procgen:
            self.deterministic_eval = False  # the paper samples actions; greedy Procgen policies get stuck

    manager.__init__ = __init__


def _adapt_to_procgen(arguments: dict[str, Any]) -> None:
    # --env-kwargs would reach the evaluation too, which then measured training levels
    if arguments["env_kwargs"] and not arguments["eval_env_kwargs"]:
        arguments["eval_env_kwargs"] = {**arguments["env_kwargs"], **UNSEEN_LEVELS}
    # The native engine has threads of its own; the single environments that it replaces need no processes
    if arguments["vec_env_type"] == "subproc":
        print("Procgen steps its environments in threads: --vec-env subproc makes no difference.")
        arguments["vec_env_type"] = "dummy"
