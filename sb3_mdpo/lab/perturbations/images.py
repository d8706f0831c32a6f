"""Perturbations of images, under one signature."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch as th
from torch import nn

from sb3_mdpo.lab.perturbations.photometric import brightness, contrast, hue, saturation

RANDOM_CONVOLUTION = "random convolution"
KERNEL_SIZE = 3
# Factors, of which 1 changes nothing; shifts of the hue in turns of the color wheel
STRENGTHS: dict[str, tuple[float, ...]] = {
    "brightness": (0.5, 0.75, 1.25, 1.5),
    "contrast": (0.5, 0.75, 1.25, 1.5),
    "saturation": (0.0, 0.5, 1.5, 2.0),
    "hue": (-0.25, -0.1, 0.1, 0.25, 0.5),
}
PHOTOMETRIC: dict[str, Callable[[th.Tensor, float], th.Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
}
COLOR_PERTURBATIONS = ("saturation", "hue")


@dataclass(frozen=True)
class Perturbation:
    """
    One way to change images, at one strength.

    :param name: name of the perturbation
    :param strength: its strength, None if it has none
    :param function: from images in [0, 1], shape ``(B, C, H, W)``, to ``(draws, B, C, H, W)``. The same images give the
        same result every time
    """

    name: str
    strength: float | None
    function: Callable[[th.Tensor], th.Tensor]

    def __call__(self, images: th.Tensor, frame_channels: int | None = None) -> th.Tensor:
        """
        :param images: images in [0, 1], shape ``(B, C, H, W)``
        :param frame_channels: channels of one frame if ``C`` holds several; each frame is changed alike
        :return: the changed images, shape ``(draws, B, C, H, W)``
        """
        frames = images.reshape(-1, frame_channels or images.shape[1], *images.shape[2:])
        return self.function(frames).reshape(-1, *images.shape)


def image_perturbations(draws: int, channels: int, generator: th.Generator) -> list[Perturbation]:
    """
    :param draws: number of random convolutions
    :param channels: channels of one frame: 3 for RGB, or 1 for grey, which has no saturation and no hue
    :param generator: source of randomness on the CPU
    :return: random convolutions, then brightness, contrast, saturation and hue at their strengths
    :raises ValueError: if there are no draws, or images have another number of channels
    """
    if draws < 1:
        raise ValueError(f"{draws} random convolutions: use at least 1.")
    if channels not in (1, 3):
        raise ValueError(f"Images with {channels} channels: perturbations are for RGB images (3) and grey ones (1).")
    filters = random_filters(draws, channels, generator)
    return [
        Perturbation(RANDOM_CONVOLUTION, None, partial(convolve, filters=filters)),
        *(
            Perturbation(name, strength, partial(_photometric, name, strength))
            for name, strengths in STRENGTHS.items()
            if channels == 3 or name not in COLOR_PERTURBATIONS
            for strength in strengths
        ),
    ]


def _photometric(name: str, strength: float, images: th.Tensor) -> th.Tensor:
    return PHOTOMETRIC[name](images, strength)[None]


def random_filters(draws: int, channels: int, generator: th.Generator) -> th.Tensor:
    """
    Weights as in network randomization (Lee et al. 2020, arXiv 1910.05396): Gaussian with Glorot variance
    (``xavier_normal_``), without bias. The authors' TensorFlow cuts the Gaussian at two standard deviations, PyTorch
    does not.

    :param draws: number of convolutions
    :param channels: channels of an image, in and out
    :param generator: source of randomness on the CPU, so that all devices get the same weights
    :return: shape ``(draws, channels, channels, 3, 3)``
    """
    filters = th.empty(draws, channels, channels, KERNEL_SIZE, KERNEL_SIZE)
    for weights in filters:
        nn.init.xavier_normal_(weights, generator=generator)
    return filters


def convolve(images: th.Tensor, filters: th.Tensor) -> th.Tensor:
    """
    Apply every convolution to every image, with zero padding. The output is **not** clipped, as in network
    randomization: about half of it is negative.

    :param images: shape ``(B, C, H, W)``
    :param filters: shape ``(draws, C, C, 3, 3)``
    :return: shape ``(draws, B, C, H, W)``
    """
    batch, channels, height, width = images.shape
    flat = nn.functional.conv2d(images, filters.flatten(0, 1).to(images), padding="same")
    return flat.reshape(batch, len(filters), channels, height, width).transpose(0, 1)
