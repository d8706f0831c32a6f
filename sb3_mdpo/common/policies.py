"""The paper's network and smaller ones as ordinary policies of SB3."""

from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_mdpo.common.torch_layers import ConvolutionalEncoder, ImpalaCNN, ImpoolaCNN, StridedCNN


class ImpalaCnnPolicy(ActorCriticPolicy):
    """
    The paper's network: an IMPALA encoder shared by actor and critic, with one linear layer each.

    The encoder keeps PyTorch's default initialisation; with ``ortho_init`` the actor is orthogonal with gain 0.01 and
    the critic with gain 1, biases 0. As an ordinary ``ActorCriticPolicy`` it also works with SB3's PPO.

    :param observation_space: image space
    :param action_space: action space
    :param lr_schedule: learning rate schedule
    :param net_arch: layers between the encoder and the heads, none by default
    :param activation_fn: activation function of these layers
    :param features_extractor_class: the encoder
    :param features_extractor_kwargs: its arguments
    :param normalize_images: whether to divide images by 255; False for floats in [0, 1]
    :param kwargs: all other arguments of ``ActorCriticPolicy``
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = ImpalaCNN,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        **kwargs: Any,
    ) -> None:
        if issubclass(features_extractor_class, ConvolutionalEncoder):  # as SB3 does for its NatureCNN
            features_extractor_kwargs = {"normalized_image": not normalize_images} | (features_extractor_kwargs or {})
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[] if net_arch is None else net_arch,
            activation_fn=activation_fn,
            features_extractor_class=features_extractor_class,
            features_extractor_kwargs=features_extractor_kwargs,
            normalize_images=normalize_images,
            **kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        # SB3 would make the encoder orthogonal as well
        ortho_init, self.ortho_init = self.ortho_init, False
        super()._build(lr_schedule)
        self.ortho_init = ortho_init
        if ortho_init:
            for module, gain in ((self.mlp_extractor, np.sqrt(2)), (self.action_net, 0.01), (self.value_net, 1.0)):
                module.apply(partial(self.init_weights, gain=gain))


class ImpoolaCnnPolicy(ImpalaCnnPolicy):
    """
    :class:`ImpalaCnnPolicy` with global average pooling after the convolutions, see :class:`~sb3_mdpo.ImpoolaCNN`.

    :param args: arguments of :class:`ImpalaCnnPolicy`
    :param features_extractor_class: the encoder
    :param kwargs: arguments of :class:`ImpalaCnnPolicy`
    """

    def __init__(
        self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = ImpoolaCNN, **kwargs: Any
    ) -> None:
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)  # type: ignore[misc]


class StridedCnnPolicy(ImpalaCnnPolicy):
    """
    :class:`ImpalaCnnPolicy` with a smaller encoder, for small images.

    :param args: arguments of :class:`ImpalaCnnPolicy`
    :param features_extractor_class: the encoder
    :param kwargs: arguments of :class:`ImpalaCnnPolicy`
    """

    def __init__(
        self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = StridedCNN, **kwargs: Any
    ) -> None:
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)  # type: ignore[misc]


class ImpalaCnnLstmPolicy(ImpalaCnnPolicy, RecurrentActorCriticPolicy):
    """
    :class:`ImpalaCnnPolicy` with an LSTM after the encoder. It also works with sb3-contrib's ``RecurrentPPO``. The
    arguments are those of :class:`ImpalaCnnPolicy` and of ``RecurrentActorCriticPolicy``.
    """
