"""Saliency: the pixels that change the probability of a policy's most probable action."""

from collections.abc import Mapping
from textwrap import fill
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


def saliency_of(policy: ActorCriticPolicy, images: NDArray[np.uint8], seed: int = 0) -> NDArray[np.float64]:
    """
    Absolute gradient of the log probability of the policy's most probable action with respect to the image (Simonyan
    et al. 2013, arXiv 1312.6034), averaged over noisy copies of the image (SmoothGrad); maximum over channels, in
    logits per grey level, shape ``(N, height, width)``.
    """
    if not isinstance(policy.action_space, spaces.Discrete):
        raise ValueError(f"Saliency needs Discrete actions, but the actions are {policy.action_space}.")

    def log_probs(images: th.Tensor) -> th.Tensor:
        categorical: Any = policy.get_distribution(images).distribution
        logits: th.Tensor = categorical.logits  # normalized
        return logits

    policy.set_training_mode(False)
    inputs = th.as_tensor(images, device=policy.device).float()
    with th.no_grad():
        actions = log_probs(inputs).argmax(dim=1)
    # captum draws its noise from the global generators
    with th.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
        th.manual_seed(seed)
        gradients = NoiseTunnel(Saliency(log_probs)).attribute(
            inputs, nt_samples=SAMPLES, nt_samples_batch_size=1, stdevs=NOISE, target=actions
        )
    saliency: NDArray[np.float64] = gradients.amax(dim=1).double().cpu().numpy()
    return saliency


def draw_saliency(
    file: BinaryIO, images: NDArray[np.uint8], saliency: Mapping[str, NDArray[Any]], frame_channels: int
) -> None:
    """
    Draw a PNG with one column per image: the image (the last of stacked frames), and below it one row per policy with
    its saliency over the grey image. Each overlay has its own scale, up to the 99th percentile.
    """
    n_images, n_rows = len(images), 1 + len(saliency)
    figure = Figure(figsize=(1.5 * n_images + 0.5, 1.5 * n_rows + 0.3), layout="constrained")
    axes = figure.subplots(n_rows, n_images, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for k, image in enumerate(images):
        frame = image[-frame_channels:].transpose(1, 2, 0)
        axes[0, k].imshow(frame, cmap="gray", vmin=0, vmax=255)
        for row, values in enumerate(saliency.values(), start=1):
            axes[row, k].imshow(frame.mean(axis=2), cmap="gray", vmin=0, vmax=255)
            # Without any saliency the overlay is black
            axes[row, k].imshow(values[k], cmap="inferno", vmin=0, vmax=np.percentile(values[k], 99) or 1, alpha=0.65)
    for axis, name in zip(axes[:, 0], ("frame", *saliency), strict=True):
        axis.set_ylabel(fill(name, 20), fontsize="small")
    figure.savefig(file, format="png", dpi=120)
