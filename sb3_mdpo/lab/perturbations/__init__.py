"""Changes of an observation that leave the state behind it unchanged."""

from sb3_mdpo.lab.perturbations.images import (
    Perturbation,
    brightness,
    contrast,
    convolve,
    hue,
    image_perturbations,
    random_filters,
    saturation,
)

__all__ = [
    "Perturbation",
    "brightness",
    "contrast",
    "convolve",
    "hue",
    "image_perturbations",
    "random_filters",
    "saturation",
]
