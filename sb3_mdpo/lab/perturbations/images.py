"""The perturbations that need the image alone, under one signature."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch as th

from sb3_mdpo.lab.perturbations.photometric import brightness, contrast, hue, saturation
from sb3_mdpo.lab.perturbations.random_convolution import convolve, random_filters

RANDOM_CONVOLUTION = "random convolution"
# Factors, of which 1 changes nothing, and for the hue shifts in turns of the colour wheel
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
OF_COLOURS = ("saturation", "hue")


@dataclass(frozen=True)
class Perturbation:
    """
    One way to change images, at one strength.

    :param name: of what is changed
    :param strength: by how much; None where there is no such number
    :param function: takes images in [0, 1], shape ``(B, C, H, W)``; returns ``(draws, B, C, H, W)``. The same
        images give the same result every time: what is random was drawn before
    """

    name: str
    strength: float | None
    function: Callable[[th.Tensor], th.Tensor]

    def __call__(self, images: th.Tensor, frame_channels: int | None = None) -> th.Tensor:
        """
        :param images: in [0, 1], shape ``(B, C, H, W)``
        :param frame_channels: channels of one frame where ``C`` holds several, each of which is changed alike
        :return: the changed images, shape ``(draws, B, C, H, W)``
        """
        frames = images.reshape(-1, frame_channels or images.shape[1], *images.shape[2:])
        return self.function(frames).reshape(-1, *images.shape)


def image_perturbations(draws: int, channels: int, generator: th.Generator) -> list[Perturbation]:
    """
    :param draws: number of random convolutions
    :param channels: channels of one frame, 3 for RGB or 1 for grey, which has no saturation and no hue
    :param generator: source of randomness on the CPU
    :return: random convolutions, then brightness, contrast, saturation and hue at their strengths
    :raises ValueError: where there are no draws, or images have another number of channels
    """
    if draws < 1:
        raise ValueError(f"{draws} random convolutions: use at least 1.")
    if channels not in (1, 3):
        raise ValueError(f"Images with {channels} channels: perturbations are for RGB images (3) and grey ones (1).")
    filters = random_filters(draws, channels, generator)
    convolutions = Perturbation(RANDOM_CONVOLUTION, None, partial(convolve, filters=filters))
    return [
        convolutions,
        *(
            Perturbation(name, strength, partial(_photometric, name, strength))
            for name, strengths in STRENGTHS.items()
            if channels == 3 or name not in OF_COLOURS
            for strength in strengths
        ),
    ]


def _photometric(name: str, strength: float, images: th.Tensor) -> th.Tensor:
    return PHOTOMETRIC[name](images, strength)[None]
