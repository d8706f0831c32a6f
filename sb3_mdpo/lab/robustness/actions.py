"""What policies do with images: the probabilities of their actions."""

from math import log
from typing import Any

import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from sb3_mdpo.common.policies import MutualPolicy

BATCH_SIZE = 256


def check_can_be_perturbed(model: OnPolicyAlgorithm) -> None:
    """
    :param model: trained model
    :raises ValueError: where it does not see images, or its actions are not single discrete ones
    """
    if not is_image_space(model.observation_space):
        raise ValueError(
            f"This model observes {model.observation_space}, and perturbations are for images: use a model that "
            "observes images of 8 bits, e.g. of procgen-coinrun-easy-v0."
        )
    if not isinstance(model.action_space, spaces.Discrete):
        raise ValueError(
            f"This model's actions are {model.action_space}, and action distributions are compared action by action: "
            "use a model with Discrete actions."
        )


def get_channels(space: spaces.Space[Any]) -> int:
    """
    :param space: image space
    :return: its number of channels
    """
    assert isinstance(space, spaces.Box)
    return int(space.shape[0 if is_image_space_channels_first(space) else -1])


@th.no_grad()
def log_probabilities(policy: BasePolicy, images: th.Tensor) -> th.Tensor:
    """
    :param policy: a member or a model's only policy, or :class:`~sb3_mdpo.common.policies.MutualPolicy` for the average
        of its members; discrete actions
    :param images: as its networks take them, values from 0 to 255, shape ``(B, C, H, W)``
    :return: log probabilities of its actions in float64, on the CPU, shape ``(B, A)``
    """
    policy.set_training_mode(False)  # as SB3 acts: without dropout
    return th.cat([_log_probabilities(policy, batch.to(policy.device)).cpu() for batch in th.split(images, BATCH_SIZE)])


def as_networks_take_them(policy: BasePolicy, observations: NDArray[Any]) -> th.Tensor:
    """
    :param policy: a policy that sees images
    :param observations: images of 8 bits as environments give them
    :return: the same with channels first, shape ``(B, C, H, W)``
    """
    images, _ = policy.obs_to_tensor(observations)
    assert isinstance(images, th.Tensor)
    return images


def _log_probabilities(policy: Any, images: th.Tensor) -> th.Tensor:
    if isinstance(policy, MutualPolicy):
        members = th.stack([_log_probabilities(member, images) for member in policy.members])
        return members.logsumexp(dim=0) - log(len(members))
    logits: th.Tensor = policy.get_distribution(images).distribution.logits
    return logits.double().log_softmax(dim=-1)
