"""Hyperparameters that the zoo does not know, and the search space of ``rl_zoo3 train -optimize``."""

from typing import Any

from rl_zoo3.utils import SimpleLinearSchedule, get_class_by_name
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule


def distill_coef_schedule(text: str) -> Schedule:
    """
    The schedule of ``lin_X``: from X at the start to 0 at the end, like the zoo's other schedules; or ``warmup_X_F``:
    from 0 to X during the first fraction F of training, then X.
    """
    kind, *parts = text.split("_")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if kind == "lin" and len(numbers) == 1 and numbers[0] >= 0:
        return SimpleLinearSchedule(numbers[0])  # type: ignore[no-any-return]
    if kind == "warmup" and len(numbers) == 2 and numbers[0] >= 0 and 0 < numbers[1] <= 1:
        return LinearSchedule(0.0, numbers[0], numbers[1])
    raise ValueError(
        f"distill_coef: {text!r} is not a schedule: use lin_X (from X down to 0, e.g. lin_1.0) or warmup_X_F (from 0 "
        "up to X during the first fraction F of training, e.g. warmup_1.0_0.1)."
    )


def preprocess_hyperparams(hyperparams: dict[str, Any]) -> None:
    """
    Replace, in place, ``distill_coef`` given as text by the schedule, ``per_policy=True`` in ``normalize`` and
    ``level_shares: per_policy`` in ``vec_env_wrapper`` by the number of policies, and dotted names in a list of
    policies by the classes, as the zoo does for a single policy.
    """
    if isinstance(hyperparams.get("distill_coef"), str):
        hyperparams["distill_coef"] = distill_coef_schedule(hyperparams["distill_coef"])
    normalize = hyperparams.get("normalize")
    if isinstance(normalize, str):
        normalize = eval(normalize)  # as the zoo does
    if isinstance(normalize, dict) and "per_policy" in normalize:
        per_policy = normalize["per_policy"]
        if not isinstance(per_policy, bool):
            raise ValueError(f"normalize: per_policy must be True or False, not {per_policy!r}.")
        rest = {name: value for name, value in normalize.items() if name != "per_policy"}
        hyperparams["normalize"] = rest | ({"n_policies": hyperparams.get("n_policies", 2)} if per_policy else {})
    if "vec_env_wrapper" in hyperparams:
        n_policies = hyperparams.get("n_policies", 2)
        hyperparams["vec_env_wrapper"] = with_level_shares(hyperparams["vec_env_wrapper"], n_policies)
    if isinstance(hyperparams.get("policy"), list):
        hyperparams["policy"] = [_policy(one) for one in hyperparams["policy"]]


def callbacks_of(hyperparams: dict[str, Any]) -> list[Any]:
    """The entries of ``callback``, which may be a single one."""
    callbacks = hyperparams.get("callback") or []
    return callbacks if isinstance(callbacks, list) else [callbacks]


def read_callback(entry: Any) -> tuple[str, dict[str, Any]]:
    """Name of the class, without its module, and arguments of an entry of ``callback``."""
    name, arguments = next(iter(entry.items())) if isinstance(entry, dict) and entry else (entry, None)
    return str(name).rpartition(".")[2], arguments or {}


def with_level_shares(wrappers: Any, per_policy: int) -> Any:
    """``vec_env_wrapper`` of the zoo's files with this number in place of ``level_shares: per_policy``."""
    if isinstance(wrappers, list):
        return [with_level_shares(one, per_policy) for one in wrappers]
    if not isinstance(wrappers, dict):
        return wrappers
    return {
        name: arguments | {"level_shares": per_policy} if arguments.get("level_shares") == "per_policy" else arguments
        for name, arguments in wrappers.items()
    }


def _policy(name: Any) -> Any:
    if not (isinstance(name, str) and "." in name):
        return name
    try:
        return get_class_by_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"policy: there is no class {name!r} ({error}): use module.Class, or a name like MlpPolicy."
        ) from error


def sample_mdpo_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Arguments of MDPO for a trial of Optuna: PPO's, and ``distill_coef``."""
    # Not at the top: this module is imported while that one is
    from rl_zoo3.hyperparams_opt import sample_ppo_params

    sample_ppo_params(trial, n_actions, n_envs, additional_args)
    trial.suggest_float("distill_coef", 0.01, 10.0, log=True)
    hyperparams = convert_mdpo_params(trial.params)
    trial.set_user_attr("batch_size", hyperparams["batch_size"])
    return hyperparams


def convert_mdpo_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Arguments of MDPO from a trial's values. ``batch_size`` is limited to ``n_steps``, the rollout of a policy with one
    environment, because MDPO rejects a ``batch_size`` larger than the rollout.
    """
    from rl_zoo3.hyperparams_opt import convert_onpolicy_params

    hyperparams: dict[str, Any] = convert_onpolicy_params(sampled_params)
    hyperparams["batch_size"] = min(hyperparams["batch_size"], hyperparams["n_steps"])
    return hyperparams
