"""Several policies in one after training: the average of MDPO's members, imitated by a single policy."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.mutual_policy import MutualPolicy
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.mdpo.losses import distillation_kl
from sb3_mdpo.utils.random_state import undisturbed


def distill_ensemble(model: MDPO, env: VecEnv, total_timesteps: int, seed: int = 0) -> PPO:
    """
    Train one new policy to act as the members do on average, as policy distillation after training does
    (e.g. arXiv 2505.16581).

    The ensemble plays ``model.n_steps`` steps in each environment; then the policy takes ``model.n_epochs`` epochs of
    minibatches of ``model.batch_size`` observations, and so on. The loss is the mean over members of
    ``KL(member || policy)``, whose gradient is that of ``KL(average || policy)``, at the initial learning rate. Rewards
    are not used, and the value function is not trained. The model is not changed.

    :param model: trained model with two or more members
    :param env: environments to play in, usually those of the training, with its levels
    :param total_timesteps: environment steps of the ensemble, in whole rounds
    :param seed: seed of the new policy's weights, of the sampling of actions and of the minibatches; the environments'
        own seeds are left as they are
    :return: a model of PPO with the first member's network and the settings that PPO shares with MDPO
    :raises ValueError: if there are fewer than two members, ``total_timesteps`` is less than 1, or the spaces of
        ``env`` are not the model's
    :raises TypeError: if observations are dictionaries, or the members take masks or have a memory
    """
    if model.n_policies < 2:
        raise ValueError("The model has a single policy, which is its own average: use to_ppo().")
    if total_timesteps < 1:
        raise ValueError(f"total_timesteps={total_timesteps} must be at least 1.")
    if isinstance(model.observation_space, spaces.Dict):
        raise TypeError(
            "Observations are dictionaries, which distill_ensemble() does not store: use vectors or images."
        )
    env = model._wrap_env(env, monitor_wrapper=False)
    check_for_correct_spaces(env, model.observation_space, model.action_space)
    ppo = model.to_ppo(0)
    if not isinstance(ppo, PPO):
        raise TypeError(
            f"The members of {type(model).__name__} are not PPO's, but {type(ppo).__name__}'s: use a model of MDPO."
        )
    ppo.seed = seed
    with undisturbed(model.policy, seed):
        ppo._setup_model()  # new weights
        model.policy.set_training_mode(False)
        observations: Any = env.reset()
        for _ in range(-(-total_timesteps // (model.n_steps * env.num_envs))):
            seen = []
            for _ in range(model.n_steps):
                seen.append(model.policy.obs_to_tensor(observations)[0])
                observations, _, _, _ = env.step(_acts(model.policy, observations))
            _imitate(ppo, model, th.cat(seen))  # type: ignore[arg-type]
        ppo.policy.set_training_mode(False)
    return ppo


def _acts(policy: MutualPolicy, observations: Any) -> Any:
    before, policy.predict_with = policy.predict_with, "ensemble"
    try:
        actions, _ = policy.predict(observations)
    finally:
        policy.predict_with = before
    return actions


def _imitate(ppo: PPO, model: MDPO, observations: th.Tensor) -> None:
    ppo.policy.set_training_mode(True)
    for _ in range(model.n_epochs):
        for part in th.split(th.randperm(len(observations)), model.batch_size):
            batch = observations[part.to(observations.device)]
            with th.no_grad():
                teachers = [member.get_distribution(batch) for member in model.policy.members]
            loss = distillation_kl(ppo.policy.get_distribution(batch), teachers)
            ppo.policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            th.nn.utils.clip_grad_norm_(ppo.policy.parameters(), model.max_grad_norm)
            ppo.policy.optimizer.step()
