"""Convolutional encoders as SB3 features extractors: IMPALA's (arXiv 1802.01561, figure 3) and a small one."""

from collections.abc import Sequence
from itertools import pairwise

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: th.Tensor) -> th.Tensor:
        # In place if the tensor is not needed any more: the same numbers in less memory
        residual: th.Tensor = self.conv1(th.relu_(self.conv0(th.relu(x))))
        return residual.add_(x)


class ImpalaStage(nn.Sequential):
    """A 3x3 convolution, a max-pooling that halves height and width (rounded up), two residual blocks."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.res0 = ResidualBlock(out_channels)
        self.res1 = ResidualBlock(out_channels)


class ConvolutionalEncoder(BaseFeaturesExtractor):
    """
    Convolutions, defined by subclasses, then one linear layer with ReLU.

    The weights keep PyTorch's default initialisation in :class:`~sb3_mdpo.ImpalaCnnPolicy` and
    :class:`~sb3_mdpo.StridedCnnPolicy`; SB3's ``CnnPolicy`` overwrites it unless ``ortho_init=False``.

    :param observation_space: image space, channels first (SB3 transposes images by itself)
    :param features_dim: number of features extracted
    :param channels: output channels of the stages, each of which halves height and width
    :param dropout: probability with which a feature is dropped while training
    :param normalized_image: whether the images are floats already (``normalize_images=False``)
    :raises ValueError: if the observation space is not an image, ``channels`` is empty or
        ``dropout`` is not a probability
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        features_dim: int,
        channels: Sequence[int],
        dropout: float = 0.0,
        normalized_image: bool = False,
    ) -> None:
        if not is_image_space(observation_space, check_channels=False, normalized_image=normalized_image):
            raise ValueError(
                f"{type(self).__name__} needs images, but the observation space is {observation_space}. "
                "Use MlpPolicy for vectors, MultiInputPolicy for dictionaries, or check_env() from "
                "stable_baselines3.common.env_checker to see why an image is not recognised as one."
            )
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must name at least one stage with at least one channel, not {channels}.")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must be a probability in [0, 1), not {dropout}.")
        super().__init__(observation_space, features_dim)
        self.cnn = nn.Sequential(*self.convolutions([observation_space.shape[0], *channels]), nn.Flatten())
        with th.no_grad():
            n_flatten = self.cnn(th.zeros(1, *observation_space.shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(n_flatten, features_dim), nn.ReLU(), nn.Dropout(dropout))

    @staticmethod
    def convolutions(widths: Sequence[int]) -> list[nn.Module]:
        """
        :param widths: channels of the image, then of each stage
        :return: the layers before flattening
        """
        raise NotImplementedError

    def forward(self, observations: th.Tensor) -> th.Tensor:
        features: th.Tensor = self.linear(self.cnn(observations))
        return features


class ImpalaCNN(ConvolutionalEncoder):
    """
    IMPALA's residual encoder, the one that the paper and most of the Procgen literature use, with
    PyTorch's default initialisation as in the paper (:class:`ConvolutionalEncoder`).

    :param observation_space: image space, channels first (SB3 transposes images by itself)
    :param features_dim: number of features extracted
    :param channels: output channels of the stages, each of which halves height and width
    :param dropout: probability with which a feature is dropped while training, for the
        paper's PPO + dropout baseline
    :param normalized_image: whether the images are floats already (``normalize_images=False``)
    :raises ValueError: if the observation space is not an image, ``channels`` is empty or
        ``dropout`` is not a probability
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        features_dim: int = 256,
        channels: Sequence[int] = (16, 32, 32),
        dropout: float = 0.0,
        normalized_image: bool = False,
    ) -> None:
        super().__init__(observation_space, features_dim, channels, dropout, normalized_image)

    @staticmethod
    def convolutions(widths: Sequence[int]) -> list[nn.Module]:
        return [*(ImpalaStage(before, after) for before, after in pairwise(widths)), nn.ReLU(inplace=True)]


class ImpoolaCNN(ImpalaCNN):
    """
    :class:`ImpalaCNN` with global average pooling in place of flattening (arXiv 2503.05546): the linear layer gets the
    mean of every channel. It has far fewer weights then, whose number does not depend on the size of the images.

    :param observation_space: image space, channels first (SB3 transposes images by itself)
    :param features_dim: number of features extracted
    :param channels: output channels of the stages, each of which halves height and width
    :param dropout: probability with which a feature is dropped while training
    :param normalized_image: whether the images are floats already (``normalize_images=False``)
    :raises ValueError: if the observation space is not an image, ``channels`` is empty or
        ``dropout`` is not a probability
    """

    @staticmethod
    def convolutions(widths: Sequence[int]) -> list[nn.Module]:
        return [*ImpalaCNN.convolutions(widths), nn.AdaptiveAvgPool2d(1)]


class StridedCNN(ConvolutionalEncoder):
    """
    A small encoder for small images: 3x3 convolutions with stride 2 and ReLU, with PyTorch's default
    initialisation (:class:`ConvolutionalEncoder`).

    :param observation_space: image space, channels first (SB3 transposes images by itself)
    :param features_dim: number of features extracted
    :param channels: output channels of the convolutions, each of which halves height and width (rounded up)
    :param dropout: probability with which a feature is dropped while training
    :param normalized_image: whether the images are floats already (``normalize_images=False``)
    :raises ValueError: if the observation space is not an image, ``channels`` is empty or
        ``dropout`` is not a probability
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        features_dim: int = 128,
        channels: Sequence[int] = (16, 32),
        dropout: float = 0.0,
        normalized_image: bool = False,
    ) -> None:
        super().__init__(observation_space, features_dim, channels, dropout, normalized_image)

    @staticmethod
    def convolutions(widths: Sequence[int]) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1), nn.ReLU(inplace=True)]
        return layers
