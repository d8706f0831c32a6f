"""MDPO with invalid action masking."""

from typing import Any, ClassVar, TypeVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import (
    MaskableActorCriticCnnPolicy,
    MaskableActorCriticPolicy,
    MaskableMultiInputActorCriticPolicy,
)
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.distributions import starts_at_zero
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.mdpo_mask.buffers import MaskableMutualRolloutBuffer, check_masks
from sb3_mdpo.mdpo_mask.policies import MaskableMutualPolicy

SelfMaskableMDPO = TypeVar("SelfMaskableMDPO", bound="MaskableMDPO")


class MaskableMDPO(MDPO):
    """
    :class:`~sb3_mdpo.MDPO` with invalid action masking, as sb3-contrib's ``MaskablePPO`` is ``PPO`` with it
    (arXiv 2006.14171). With one policy it equals ``MaskablePPO``.

    The masks come from the environments' ``action_masks()`` or sb3-contrib's ``ActionMasker``. In the KL the learner's
    masks apply to both sides. The arguments are those of :class:`~sb3_mdpo.MDPO`; the aliases of ``policy``
    (MlpPolicy, CnnPolicy, MultiInputPolicy) are sb3-contrib's maskable policies.

    :raises AssertionError: if actions are neither ``Discrete``, ``MultiDiscrete`` nor ``MultiBinary``
    :raises ValueError: as MDPO, or if actions do not start at 0
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MaskableActorCriticPolicy,
        "CnnPolicy": MaskableActorCriticCnnPolicy,
        "MultiInputPolicy": MaskableMultiInputActorCriticPolicy,
    }
    algorithm = "maskable_mdpo"
    ppo_class = MaskablePPO
    member_base = MaskableActorCriticPolicy
    mutual_policy_class = MaskableMutualPolicy
    default_buffer_class = MaskableMutualRolloutBuffer
    supported_action_spaces = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    use_masking = True  # of the current training

    def _setup_model(self) -> None:
        if not starts_at_zero(self.action_space):
            raise ValueError(
                f"The actions of {self.action_space} do not start at 0, as maskable policies assume: subtract the "
                "start in a gymnasium.ActionWrapper."
            )
        super()._setup_model()

    def _policy_inputs(self, env: VecEnv) -> dict[str, Any]:
        if not self.use_masking:
            return {}
        return {"action_masks": check_masks(get_action_masks(env), env.num_envs, self.action_space)}

    def predict(  # type: ignore[override]
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """
        As SB3's, with masks.

        :param observation: observation of one environment or of several
        :param state: not used
        :param episode_start: not used
        :param deterministic: whether to take the most probable actions
        :param action_masks: true for the actions that are allowed, None for all
        :return: actions, and ``state``
        """
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks)  # type: ignore[call-arg]

    def learn(  # type: ignore[override]
        self: SelfMaskableMDPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 1,
        tb_log_name: str = "MaskableMDPO",
        reset_num_timesteps: bool = True,
        use_masking: bool = True,
        progress_bar: bool = False,
    ) -> SelfMaskableMDPO:
        """
        Train all members, as :meth:`MDPO.learn() <sb3_mdpo.MDPO.learn>`.

        :param total_timesteps: environment steps of all policies together
        :param callback: called at every step; for evaluations use sb3-contrib's ``MaskableEvalCallback``
        :param log_interval: number of iterations between two logs, None for none
        :param tb_log_name: name of the run for TensorBoard
        :param reset_num_timesteps: whether to start counting timesteps anew
        :param use_masking: whether to use the environments' masks
        :param progress_bar: whether to show a progress bar
        :return: the trained model
        :raises ValueError: as MDPO, or if the environments have no masks, masks of another shape, or masks that allow
            no action
        """
        if use_masking and self.env is not None and not is_masking_supported(self.env):
            raise ValueError(
                "The environments have no action_masks(): add the method, wrap them in sb3_contrib's ActionMasker, or "
                "train with MDPO, or with learn(..., use_masking=False)."
            )
        self.use_masking = use_masking
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
