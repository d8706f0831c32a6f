"""Images through a randomly initialised convolution: other colours and textures, the same shapes."""

import torch as th
from torch import nn

KERNEL_SIZE = 3


def random_filters(draws: int, channels: int, generator: th.Generator) -> th.Tensor:
    """
    Weights as in network randomization (Lee et al. 2020, arXiv 1910.05396), from which the paper has its
    random convolutions: Gaussian with the variance of Glorot and Bengio (``xavier_normal_``), without bias.
    The authors' TensorFlow cuts the Gaussian at two standard deviations, PyTorch does not.

    :param draws: number of convolutions
    :param channels: channels of an image, in and out
    :param generator: source of randomness on the CPU, so that all devices get the same
    :return: shape ``(draws, channels, channels, 3, 3)``
    """
    filters = th.empty(draws, channels, channels, KERNEL_SIZE, KERNEL_SIZE)
    for weights in filters:
        nn.init.xavier_normal_(weights, generator=generator)
    return filters


def convolve(images: th.Tensor, filters: th.Tensor) -> th.Tensor:
    """
    Send every image through every convolution, zeros around it. The output is **not** clipped, as in network
    randomization: about half of it is negative, which no image is.

    :param images: shape ``(B, C, H, W)``
    :param filters: shape ``(draws, C, C, 3, 3)``
    :return: shape ``(draws, B, C, H, W)``
    """
    batch, channels, height, width = images.shape
    flat = nn.functional.conv2d(images, filters.flatten(0, 1).to(images), padding="same")
    return flat.reshape(batch, len(filters), channels, height, width).transpose(0, 1)


def random_convolution(images: th.Tensor, draws: int, generator: th.Generator) -> th.Tensor:
    """
    The same images under several convolutions; what stays the same from call to call needs
    :func:`random_filters` once and :func:`convolve` often.

    :param images: shape ``(B, C, H, W)``, in [0, 1]
    :param draws: number of convolutions
    :param generator: source of randomness on the CPU
    :return: shape ``(draws, B, C, H, W)``, not clipped
    """
    return convolve(images, random_filters(draws, images.shape[1], generator))
