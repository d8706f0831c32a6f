"""Faster arithmetic for the networks: bfloat16 encoders, and chunks that fit a processor's caches."""

import ctypes
import sys
from functools import partial
from math import prod
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_mdpo.common.mutual_policy import MutualPolicy

# Images of 64x64 pixels in a chunk on the CPU: benchmarks/scaling.py measures sizes around it
CPU_CHUNK = 128
PIXELS = 64 * 64
# From glibc's malloc.h: blocks below 32 MiB (its limit) are not mapped one by one, and freed memory is kept
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MALLOC_SETTINGS = {M_MMAP_THRESHOLD: 2**25, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}


def has_images(observation_space: spaces.Space[Any]) -> bool:
    """Whether the observation space is an image, or a dictionary with one inside."""
    return bool(_images(observation_space))


def _images(observation_space: spaces.Space[Any]) -> list[spaces.Space[Any]]:
    parts = observation_space.spaces.values() if isinstance(observation_space, spaces.Dict) else [observation_space]
    return [part for part in parts if len(part.shape or ()) == 3 and is_image_space(part, normalized_image=True)]


def has_bfloat16(device: th.device) -> bool:
    """Whether the device has instructions for matrix products in bfloat16."""
    if device.type == "cuda":
        return bool(th.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (th.cpu._is_amx_tile_supported() or th.cpu._is_avx512_bf16_supported())


def resolve_precision(precision: str, device: th.device, observation_space: spaces.Space[Any]) -> str:
    """
    :param precision: ``"fp32"``, ``"bf16"`` or ``"auto"``
    :param device: device of the networks
    :param observation_space: observation space
    :return: ``"fp32"`` or ``"bf16"``; ``"auto"`` becomes bf16 for images on hardware that supports it
    """
    if precision != "auto":
        return precision
    return "bf16" if has_images(observation_space) and has_bfloat16(device) else "fp32"


def automatic_chunk_size(policy: MutualPolicy) -> int | None:
    """
    :param policy: the members
    :return: largest number of samples that go through a network at once: on a CPU as many images as fit into its
        caches, more if they are smaller than 64x64; None on GPUs, for vectors and with batch normalisation
    """
    coupled = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in policy.modules())
    images = _images(policy.observation_space)
    if policy.device.type != "cpu" or coupled or not images:
        return None
    largest = max(prod(sorted(image.shape or ())[-2:]) for image in images)  # whichever axis the channels are
    return CPU_CHUNK * max(1, PIXELS // largest)


def features_extractors(policy: MutualPolicy) -> list[BaseFeaturesExtractor]:
    """Every features extractor, once."""
    return [module for module in policy.modules() if isinstance(module, BaseFeaturesExtractor)]


def run_in_bfloat16(extractor: nn.Module) -> None:
    """
    Compute the matrix products and convolutions of a features extractor in bfloat16; its weights, gradients and
    features stay in float32.

    :param extractor: features extractor
    """
    # Not a closure: a copied or unpickled extractor must call itself, not this one
    extractor.forward = partial(_forward_in_bfloat16, extractor)  # type: ignore[method-assign]


def _forward_in_bfloat16(extractor: nn.Module, observations: Any) -> th.Tensor:
    device_type = next((parameter.device.type for parameter in extractor.parameters()), "cpu")
    with th.autocast(device_type, dtype=th.bfloat16):
        features: th.Tensor = type(extractor).forward(extractor, observations)
    return features.float()


def keep_freed_memory(policy: MutualPolicy) -> None:
    """
    Let the C library keep freed memory for the next tensor when training on images on the CPU.

    By default large blocks are returned to the system and zeroed again, which takes a fifth of the time of a bfloat16
    update. The setting stays for the whole process, whose memory does not shrink after a peak. glibc only.

    :param policy: the members
    """
    if policy.device.type != "cpu" or not has_images(policy.observation_space):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in MALLOC_SETTINGS.items():
            mallopt(parameter, value)


def accelerate(policy: MutualPolicy, precision: str) -> None:
    """
    Store convolution weights channels last, as the images are, and let encoders compute in the precision.

    :param policy: the members
    :param precision: ``"fp32"`` or ``"bf16"``
    :raises ValueError: if features extractors compute nothing that could be faster
    """
    extractors = features_extractors(policy)
    for extractor in extractors:
        extractor.to(memory_format=th.channels_last)  # type: ignore[call-overload]
    if precision != "bf16":
        return
    if not any(list(extractor.parameters()) for extractor in extractors):
        raise ValueError(
            "precision='bf16' is for features extractors with weights, as those of images, but "
            f"{type(extractors[0]).__name__} has none: leave it out, or use precision='auto'."
        )
    for extractor in extractors:
        run_in_bfloat16(extractor)
