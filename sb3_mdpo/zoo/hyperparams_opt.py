"""MDPO's search space for ``rl_zoo3 train -optimize``: PPO's, and the weight of the distillation."""

from typing import Any

import optuna


def sample_mdpo_params(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    :param trial: the trial to sample for
    :param n_actions: passed on to PPO's sampler
    :param n_envs: passed on to PPO's sampler
    :param additional_args: passed on to PPO's sampler
    :return: arguments of MDPO
    """
    # Not at the top: the zoo's module asks for this one as soon as it is imported
    from rl_zoo3.hyperparams_opt import sample_ppo_params

    sample_ppo_params(trial, n_actions, n_envs, additional_args)
    trial.suggest_float("distill_coef", 0.01, 10.0, log=True)
    hyperparams = convert_mdpo_params(trial.params)
    trial.set_user_attr("batch_size", hyperparams["batch_size"])
    return hyperparams


def convert_mdpo_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: what the trial's ``suggest_...`` methods returned, by name
    :return: arguments of MDPO. A minibatch is at most ``n_steps``, the rollout of a policy with
        one environment: MDPO rejects larger ones than the rollout, where PPO cuts them short
    """
    from rl_zoo3.hyperparams_opt import convert_onpolicy_params

    hyperparams: dict[str, Any] = convert_onpolicy_params(sampled_params)
    hyperparams["batch_size"] = min(hyperparams["batch_size"], hyperparams["n_steps"])
    return hyperparams
