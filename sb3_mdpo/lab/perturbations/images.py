"""Perturbations of images, under one signature."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch as th
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from torch import nn

RANDOM_CONVOLUTION = "random convolution"
KERNEL_SIZE = 3
# Factors, of which 1 changes nothing; shifts of the hue in turns of the color wheel
STRENGTHS: dict[str, tuple[float, ...]] = {
    "brightness": (0.5, 0.75, 1.25, 1.5),
    "contrast": (0.5, 0.75, 1.25, 1.5),
    "saturation": (0.0, 0.5, 1.5, 2.0),
    "hue": (-0.25, -0.1, 0.1, 0.25, 0.5),
}
COLOR_PERTURBATIONS = ("saturation", "hue")


@dataclass(frozen=True)
class Perturbation:
    """
    One way to change images, at one strength (None if it has none), in one or several draws: functions of images in
    [0, 1], shape ``(B, C, H, W)``, to images of that shape. The same images give the same result every time.
    """

    name: str
    strength: float | None
    draws: tuple[Callable[[th.Tensor], th.Tensor], ...]

    def __call__(self, images: th.Tensor, frame_channels: int | None = None) -> th.Tensor:
        """All draws, shape ``(draws, B, C, H, W)``; each frame of ``frame_channels`` channels is changed alike."""
        return th.stack([_by_frame(draw, images, frame_channels) for draw in self.draws])

    def in_turn(self, images: th.Tensor, frame_channels: int | None = None) -> th.Tensor:
        """Image ``i`` in draw ``i % draws`` only, shape ``(B, C, H, W)``."""
        changed, n_draws = th.empty_like(images), len(self.draws)
        for k, draw in enumerate(self.draws[: len(images)]):
            changed[k::n_draws] = _by_frame(draw, images[k::n_draws], frame_channels)
        return changed


def _by_frame(draw: Callable[[th.Tensor], th.Tensor], images: th.Tensor, frame_channels: int | None) -> th.Tensor:
    frames = images.reshape(-1, frame_channels or images.shape[1], *images.shape[2:])
    return draw(frames).reshape(images.shape)


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
        Perturbation(RANDOM_CONVOLUTION, None, tuple(partial(convolve, weights=weights) for weights in filters)),
        *(
            Perturbation(name, strength, (partial(_photometric, name, strength),))
            for name, strengths in STRENGTHS.items()
            if channels == 3 or name not in COLOR_PERTURBATIONS
            for strength in strengths
        ),
    ]


def _photometric(name: str, strength: float, images: th.Tensor) -> th.Tensor:
    return PHOTOMETRIC[name](images, strength)


def random_filters(draws: int, channels: int, generator: th.Generator) -> th.Tensor:
    """
    Weights as in network randomization (Lee et al. 2020, arXiv 1910.05396): Gaussian with Glorot variance, no bias,
    shape ``(draws, channels, channels, 3, 3)``. The authors' TensorFlow cuts the Gaussian at two standard deviations,
    PyTorch does not. Drawn on the CPU, so that all devices get the same weights.
    """
    filters = th.empty(draws, channels, channels, KERNEL_SIZE, KERNEL_SIZE)
    for weights in filters:
        nn.init.xavier_normal_(weights, generator=generator)
    return filters


def convolve(images: th.Tensor, weights: th.Tensor) -> th.Tensor:
    """
    Convolve images ``(B, C, H, W)`` with weights ``(C, C, 3, 3)`` and zero padding. The output is **not** clipped, as
    in network randomization: about half of it is negative.
    """
    return nn.functional.conv2d(images, weights.to(images), padding="same")


# The formulas of torchvision's transforms.functional for float tensors in [0, 1], clipped to [0, 1]
LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as in PIL and torchvision


def brightness(images: th.Tensor, factor: float) -> th.Tensor:
    """Images ``(B, C, H, W)`` times a factor that is not negative: 0 gives black, 1 the same images."""
    return _blend(images, th.zeros_like(images), factor)


def contrast(images: th.Tensor, factor: float) -> th.Tensor:
    """Contrast of images with one or three channels: 0 gives each image's mean luminance everywhere."""
    return _blend(images, grayscale(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def saturation(images: th.Tensor, factor: float) -> th.Tensor:
    """Saturation of RGB images: 0 gives shades of grey, 1 the same images."""
    return _blend(images, grayscale(images), factor)


def hue(images: th.Tensor, shift: float) -> th.Tensor:
    """RGB images with all hues shifted, in turns of the color wheel, -0.5 to 0.5."""
    hsv = rgb_to_hsv(images.movedim(1, -1).cpu().numpy())
    hsv[..., 0] = np.remainder(hsv[..., 0] + shift, 1)
    return th.from_numpy(hsv_to_rgb(hsv)).movedim(-1, 1).to(images)


def grayscale(images: th.Tensor) -> th.Tensor:
    """Luminance, shape ``(B, 1, H, W)``, of images with one or three channels."""
    if images.shape[1] == 1:
        return images
    weights = th.tensor(LUMA).to(images)
    return (images * weights[:, None, None]).sum(dim=1, keepdim=True)


def _blend(images: th.Tensor, others: th.Tensor, factor: float) -> th.Tensor:
    return (factor * images + (1 - factor) * others).clamp(0, 1)


PHOTOMETRIC = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
