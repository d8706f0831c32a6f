"""A policy's action distributions in the same states, with original and with perturbed observations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_mdpo.lab.perturbations.images import Perturbation
from sb3_mdpo.lab.perturbations.renderings import RENDERINGS, draw_states, render, why_not
from sb3_mdpo.lab.state_sampling import SampledStates, log_probabilities, to_tensor

CHUNK_SIZE = 512  # images that are perturbed at once


def kl_divergence(log_p: th.Tensor, log_q: th.Tensor) -> th.Tensor:
    """``KL(p || q)`` in nats, of log probabilities ``(..., A)``; actions with ``p = 0`` add nothing."""
    p = log_p.exp()
    return th.where(p > 0, p * (log_p - log_q), 0.0).sum(dim=-1)


def total_variation(log_p: th.Tensor, log_q: th.Tensor) -> th.Tensor:
    """``sum |p - q| / 2``, from 0 to 1, shape ``(...)``, of log probabilities ``(..., A)``."""
    return (log_p.exp() - log_q.exp()).abs().sum(dim=-1) / 2


@dataclass(frozen=True)
class Comparison:
    """
    Log probabilities of the actions under one perturbation.

    :param strength: None if it has none
    :param original: shape ``(N, A)``
    :param perturbed: the same for the perturbed images, shape ``(draws, N, A)``
    """

    perturbation: str
    strength: float | None
    original: th.Tensor
    perturbed: th.Tensor


def compare_images(
    policy: BasePolicy, states: SampledStates, perturbations: Sequence[Perturbation], frame_channels: int
) -> Iterator[Comparison]:
    """Compare under perturbations of images. Each frame of ``frame_channels`` channels is changed alike."""
    images = to_tensor(policy, states.observations)
    original = log_probabilities(policy, images)
    for perturbation in perturbations:
        draws = len(perturbation(images[:1] / 255, frame_channels))
        parts = []
        for chunk in th.split(images, max(1, CHUNK_SIZE // draws)):
            changed = 255 * perturbation(chunk / 255, frame_channels)
            parts.append(log_probabilities(policy, changed.flatten(0, 1)).reshape(*changed.shape[:2], -1))
        yield Comparison(perturbation.name, perturbation.strength, original, th.cat(parts, dim=1))


def compare_renderings(
    policy: BasePolicy, states: SampledStates, renderings: Sequence[str], draws: int, generator: th.Generator
) -> Iterator[Comparison]:
    """Compare under other renderings of the engine's states, with at most ``draws`` other backgrounds per state."""
    original = log_probabilities(policy, to_tensor(policy, states.observations))
    for rendering in renderings:
        images = render(rendering, states.engine_states or [], draws, generator)
        perturbed = log_probabilities(policy, to_tensor(policy, images.reshape(-1, *images.shape[2:])))
        yield Comparison(rendering, None, original, perturbed.reshape(len(images), *original.shape))


def missing_renderings(states: SampledStates) -> dict[str, str]:
    """Renderings in which these states cannot be drawn, and why."""
    if states.engine_states is None:
        return dict.fromkeys(RENDERINGS, "only Procgen's native engine, without generated assets, can save its states")
    if not np.array_equal(draw_states(states.engine_states), states.observations):
        return dict.fromkeys(
            RENDERINGS, "the policy does not observe the engine's image alone, but e.g. stacked frames"
        )
    reasons = {rendering: why_not(rendering, states.engine_states[0]) for rendering in RENDERINGS}
    return {rendering: reason for rendering, reason in reasons.items() if reason is not None}
