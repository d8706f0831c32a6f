"""Changes of an observation that leave the state behind it as it is."""

from sb3_mdpo.lab.perturbations.images import Perturbation, image_perturbations
from sb3_mdpo.lab.perturbations.photometric import brightness, contrast, hue, saturation
from sb3_mdpo.lab.perturbations.random_convolution import convolve, random_convolution, random_filters

__all__ = [
    "Perturbation",
    "brightness",
    "contrast",
    "convolve",
    "hue",
    "image_perturbations",
    "random_convolution",
    "random_filters",
    "saturation",
]
