"""Changes of an observation that leave the state behind it unchanged."""

from sb3_mdpo.lab.perturbations.images import Perturbation, convolve, image_perturbations, random_filters
from sb3_mdpo.lab.perturbations.photometric import brightness, contrast, hue, saturation

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
