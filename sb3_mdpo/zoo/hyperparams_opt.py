"""Search space of MDPO for ``rl_zoo3 train -optimize``: PPO's, and ``distill_coef``."""

from typing import Any

import optuna


def sample_mdpo_params(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    :param trial: Optuna trial
    :param n_actions: passed to PPO's sampler, as are the following
    :param n_envs:
    :param additional_args:
    :return: arguments of MDPO
    """
    # Not at the top: this module is imported while that one is
    from rl_zoo3.hyperparams_opt import sample_ppo_params

    sample_ppo_params(trial, n_actions, n_envs, additional_args)
    trial.suggest_float("distill_coef", 0.01, 10.0, log=True)
    hyperparams = convert_mdpo_params(trial.params)
    trial.set_user_attr("batch_size", hyperparams["batch_size"])
    return hyperparams


def convert_mdpo_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: values returned by the trial's ``suggest_...`` methods, by name
    :return: arguments of MDPO. ``batch_size`` is limited to ``n_steps``, the rollout of a policy with one environment,
        because MDPO rejects a ``batch_size`` larger than the rollout
    """
    from rl_zoo3.hyperparams_opt import convert_onpolicy_params

    hyperparams: dict[str, Any] = convert_onpolicy_params(sampled_params)
    hyperparams["batch_size"] = min(hyperparams["batch_size"], hyperparams["n_steps"])
    return hyperparams
