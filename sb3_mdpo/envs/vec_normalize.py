"""``VecNormalize`` with reward statistics for each policy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize


class MutualVecNormalize(VecNormalize):
    """
    SB3's ``VecNormalize`` whose rewards are scaled by the returns of each policy's own environments, as in the paper's
    code. With shared statistics, the returns of the better policy scale the rewards of the other one, and with them its
    value loss and clip range.

    Statistics of observations are shared: every policy is also evaluated on the other policies' states.

    :param venv: environments; environment ``i`` of ``n_envs`` belongs to policy ``i // (n_envs / n_policies)``
    :param n_policies: number of policies
    :param kwargs: all other arguments of ``VecNormalize``
    """

    def __init__(self, venv: VecEnv, n_policies: int = 2, **kwargs: Any) -> None:
        super().__init__(venv, **kwargs)
        self.n_policies = n_policies
        self.ret_rms = RunningMeanStd(shape=(n_policies,))

    @classmethod
    def from_shared(cls, shared: VecNormalize, n_policies: int) -> "MutualVecNormalize":
        """
        :param shared: environments with statistics of all policies together
        :param n_policies: number of policies
        :return: the same with statistics of each policy, which start from the shared ones
        """
        names = ("training", "norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "norm_obs_keys")
        normalize = cls(shared.venv, n_policies, **{name: getattr(shared, name) for name in names})
        if shared.norm_obs:
            normalize.obs_rms = shared.obs_rms
        normalize.ret_rms.mean += shared.ret_rms.mean
        normalize.ret_rms.var = np.full(n_policies, shared.ret_rms.var)
        normalize.ret_rms.count = shared.ret_rms.count
        return normalize

    def _update_reward(self, reward: NDArray[Any]) -> None:
        self.returns = self.returns * self.gamma + reward
        self.ret_rms.update(self.returns.reshape(self.n_policies, -1).T)

    def _scale(self, reward: NDArray[Any]) -> NDArray[np.float64]:
        """The standard deviation that belongs to each environment."""
        if len(reward) % self.n_policies:
            raise ValueError(
                f"Rewards of {len(reward)} environment(s) cannot be normalized by the statistics of {self.n_policies} "
                f"policies: use a multiple of {self.n_policies} environments, or set norm_reward=False."
            )
        scale: NDArray[np.float64] = np.sqrt(self.ret_rms.var + self.epsilon)
        return np.repeat(scale, len(reward) // self.n_policies)

    def normalize_reward(self, reward: NDArray[Any]) -> NDArray[Any]:
        """
        :param reward: shape ``(n_envs,)``
        :return: scaled and clipped rewards
        :raises ValueError: if the environments cannot be divided among the policies
        """
        if self.norm_reward:
            reward = np.clip(reward / self._scale(reward), -self.clip_reward, self.clip_reward)
        return reward.astype(np.float32)

    def unnormalize_reward(self, reward: NDArray[Any]) -> NDArray[Any]:
        """
        :param reward: scaled rewards, shape ``(n_envs,)``
        :return: rewards as the environments return them, except for clipping
        :raises ValueError: if the environments cannot be divided among the policies
        """
        return reward * self._scale(reward) if self.norm_reward else reward
