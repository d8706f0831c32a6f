"""Faster arithmetic for the networks: bfloat16 encoders, chunks that fit a processor's caches, compilation."""

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

from sb3_mdpo.common.policies import MutualPolicy

# Images of 64x64 pixels in a chunk on the CPU: benchmarks/scaling.py measures sizes around it
CPU_CHUNK = 128
PIXELS = 64 * 64
# Of glibc's malloc.h, and values: blocks below 32 MiB (its limit) are not mapped from the system one by one, and
# what is freed is kept
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MALLOC_SETTINGS = {M_MMAP_THRESHOLD: 2**25, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}


def has_images(observation_space: spaces.Space[Any]) -> bool:
    """
    :param observation_space: observation space
    :return: whether it is an image, or a dictionary with one inside
    """
    return bool(_images(observation_space))


def _images(observation_space: spaces.Space[Any]) -> list[spaces.Space[Any]]:
    parts = observation_space.spaces.values() if isinstance(observation_space, spaces.Dict) else [observation_space]
    return [part for part in parts if len(part.shape or ()) == 3 and is_image_space(part, normalized_image=True)]


def has_bfloat16(device: th.device) -> bool:
    """
    :param device: where the networks are
    :return: whether it multiplies matrices of bfloat16 by instructions of its own
    """
    if device.type == "cuda":
        return bool(th.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (th.cpu._is_amx_tile_supported() or th.cpu._is_avx512_bf16_supported())


def resolve_precision(precision: str, device: th.device, observation_space: spaces.Space[Any]) -> str:
    """
    :param precision: ``"fp32"``, ``"bf16"`` or ``"auto"``
    :param device: where the networks are
    :param observation_space: observation space
    :return: ``"fp32"`` or ``"bf16"``: of ``"auto"`` the latter for images on hardware that has it
    """
    if precision != "auto":
        return precision
    return "bf16" if has_images(observation_space) and has_bfloat16(device) else "fp32"


def automatic_chunk_size(policy: MutualPolicy) -> int | None:
    """
    :param policy: the members
    :return: how many samples should go through a network at once: few images on a CPU, whose caches
        they would leave, but as many more as they are smaller than 64x64; everything at once on GPUs, for
        vectors, and where batch normalisation takes its statistics from the batch
    """
    coupled = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in policy.modules())
    images = _images(policy.observation_space)
    if policy.device.type != "cpu" or coupled or not images:
        return None
    largest = max(prod(sorted(image.shape or ())[-2:]) for image in images)  # whichever axis the channels are
    return CPU_CHUNK * max(1, PIXELS // largest)


def features_extractors(policy: MutualPolicy) -> list[BaseFeaturesExtractor]:
    """
    :param policy: the members
    :return: every features extractor once
    """
    return [module for module in policy.modules() if isinstance(module, BaseFeaturesExtractor)]


def run_in_bfloat16(extractor: nn.Module) -> None:
    """
    Have the matrix products and convolutions of a features extractor computed in bfloat16; its
    weights, its gradients and its features stay in float32.

    :param extractor: features extractor
    """
    # No closure: a copy of the extractor, or one that was pickled, must call itself and not this one
    extractor.forward = partial(_forward_in_bfloat16, extractor)  # type: ignore[method-assign]


def _forward_in_bfloat16(extractor: nn.Module, observations: Any) -> th.Tensor:
    device_type = next((parameter.device.type for parameter in extractor.parameters()), "cpu")
    with th.autocast(device_type, dtype=th.bfloat16):
        features: th.Tensor = type(extractor).forward(extractor, observations)
    return features.float()


def keep_freed_memory(policy: MutualPolicy) -> None:
    """
    Have the C library keep freed memory for the next tensor, where images are trained on the CPU.

    By default it gives blocks of megabytes back to the system, which hands them out again page by page,
    zeroed: a fifth of the time of a bfloat16 update. It changes this process for good: its memory does
    not shrink after a peak. Only glibc has the setting; elsewhere nothing happens.

    :param policy: the members
    """
    if policy.device.type != "cpu" or not has_images(policy.observation_space):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in MALLOC_SETTINGS.items():
            mallopt(parameter, value)


def accelerate(policy: MutualPolicy, precision: str, compile: bool) -> None:
    """
    :param policy: the members
    :param precision: ``"fp32"`` or ``"bf16"``
    :param compile: whether features extractors are compiled by ``torch.compile``
    :raises ValueError: if features extractors compute nothing that could be faster
    """
    extractors = features_extractors(policy)
    if (precision == "bf16" or compile) and not any(list(extractor.parameters()) for extractor in extractors):
        asked = "compile=True" if compile else "precision='bf16'"
        raise ValueError(
            f"{asked} is for features extractors with weights, as those of images, but {type(extractors[0]).__name__} "
            "has none: leave it out, or use precision='auto'."
        )
    for extractor in extractors:
        if precision == "bf16":
            run_in_bfloat16(extractor)
        if compile:
            extractor.compile()
