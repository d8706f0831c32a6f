"""MDPO's search space for ``rl_zoo3 train -optimize``: PPO's and ``distill_coef``."""

from typing import Any

import optuna


def sample_mdpo_params(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """Sample arguments of MDPO; the parameters are those of PPO's sampler."""
    # Not at the top: the zoo's module imports this one
    from rl_zoo3.hyperparams_opt import sample_ppo_params

    sample_ppo_params(trial, n_actions, n_envs, additional_args)
    trial.suggest_float("distill_coef", 0.01, 10.0, log=True)
    hyperparams = convert_mdpo_params(trial.params)
    trial.set_user_attr("batch_size", hyperparams["batch_size"])
    return hyperparams


def convert_mdpo_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Convert the sampled values to arguments of MDPO. ``batch_size`` is at most ``n_steps``, the rollout of a policy with
    one environment: MDPO rejects larger minibatches, while PPO truncates them.
    """
    from rl_zoo3.hyperparams_opt import convert_onpolicy_params

    hyperparams: dict[str, Any] = convert_onpolicy_params(sampled_params)
    hyperparams["batch_size"] = min(hyperparams["batch_size"], hyperparams["n_steps"])
    return hyperparams
