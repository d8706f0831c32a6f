"""Saliency: which pixels move the probability of the action that a policy would take."""

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import torch as th
from captum.attr import NoiseTunnel, Saliency
from gymnasium import spaces
from matplotlib.figure import Figure
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy

# SmoothGrad (Smilkov et al. 2017, arXiv 1706.03825): "10-20 % noise", and little change beyond some 50 samples
NOISE, SAMPLES = 0.1 * 255, 32


def saliency_of(policy: ActorCriticPolicy, observations: NDArray[Any], seed: int = 0) -> NDArray[np.float64]:
    """
    Gradient of the log-probability of the policy's most probable action with respect to each pixel
    (Simonyan et al. 2013, arXiv 1312.6034: the largest absolute value over the channels), averaged over
    noisy copies of the image (SmoothGrad).

    :param policy: policy on images, with discrete actions
    :param observations: ``N`` images of its environment
    :param seed: seed of the noise
    :return: saliency per pixel in logits per grey level, not negative, shape ``(N, height, width)``
    :raises ValueError: where actions are not discrete
    """
    if not isinstance(policy.action_space, spaces.Discrete):
        raise ValueError(f"Saliency is that of one of several actions, but the actions are {policy.action_space}.")

    def log_probs(images: th.Tensor) -> th.Tensor:
        logits: th.Tensor = policy.get_distribution(images).distribution.logits
        return logits

    policy.set_training_mode(False)
    images = policy.obs_to_tensor(observations)[0].float()  # type: ignore[union-attr]
    with th.no_grad():
        actions = log_probs(images).argmax(dim=1)
    # captum takes its noise from the global generators
    with th.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        th.manual_seed(seed)
        gradients = NoiseTunnel(Saliency(log_probs)).attribute(
            images, nt_samples=SAMPLES, nt_samples_batch_size=1, stdevs=NOISE, target=actions
        )
    saliency: NDArray[np.float64] = gradients.amax(dim=1).double().cpu().numpy()
    return saliency


def draw_saliency(file: BinaryIO, frames: NDArray[np.uint8], saliency: Mapping[str, NDArray[Any]]) -> None:
    """
    Frames in columns: the frame itself, and below it one row per policy with its saliency over the grey frame. Every
    picture has its own scale, up to the 99th percentile.

    :param file: what to write the PNG to
    :param frames: ``N`` images, shape ``(N, height, width, channels)``; of stacked ones the last is drawn
    :param saliency: of each policy by name, shape ``(N, height, width)``
    """
    n_frames, n_rows = len(frames), 1 + len(saliency)
    figure = Figure(figsize=(1.5 * n_frames + 0.5, 1.5 * n_rows + 0.3), layout="constrained")
    axes = figure.subplots(n_rows, n_frames, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for k, frame in enumerate(frames):
        picture = _last_picture(frame)
        axes[0, k].imshow(picture)
        for row, values in enumerate(saliency.values(), start=1):
            axes[row, k].imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=255)
            # Nothing salient at all leaves the frame as it is
            axes[row, k].imshow(values[k], cmap="inferno", vmin=0, vmax=np.percentile(values[k], 99) or 1, alpha=0.65)
    for axis, name in zip(axes[:, 0], ("frame", *saliency), strict=True):
        axis.set_ylabel(name)
    figure.savefig(file, format="png", dpi=120)


def _last_picture(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of stacked pictures the last, always with three colours."""
    channels = 3 if frame.shape[2] % 3 == 0 else 1
    return np.repeat(frame[:, :, -channels:], 3 // channels, axis=2)
