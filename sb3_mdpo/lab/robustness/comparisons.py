"""A policy's action distributions on the same moments, seen as they were and perturbed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_mdpo.lab.perturbations.images import Perturbation
from sb3_mdpo.lab.perturbations.renderings import RENDERINGS, draw_states, render, why_not
from sb3_mdpo.lab.robustness.actions import as_networks_take_them, log_probabilities
from sb3_mdpo.lab.robustness.state_sampling import Moments

CHUNK_SIZE = 512  # images that are perturbed at once


@dataclass(frozen=True)
class Comparison:
    """
    :param perturbation: what was changed
    :param strength: by how much; None where there is no such number
    :param original: log probabilities of the actions, shape ``(N, A)``
    :param perturbed: the same on the perturbed images, shape ``(draws, N, A)``
    """

    perturbation: str
    strength: float | None
    original: th.Tensor
    perturbed: th.Tensor


def compare_images(
    policy: BasePolicy, moments: Moments, perturbations: Sequence[Perturbation], frame_channels: int
) -> Iterator[Comparison]:
    """
    :param policy: a policy that sees images, with discrete actions
    :param moments: ``N`` of them
    :param perturbations: what to change
    :param frame_channels: channels of one frame; each frame is changed alike
    :return: one comparison for each perturbation
    """
    images = as_networks_take_them(policy, moments.observations)
    original = log_probabilities(policy, images)
    for perturbation in perturbations:
        draws = len(perturbation(images[:1] / 255, frame_channels))
        parts = []
        for chunk in th.split(images, max(1, CHUNK_SIZE // draws)):
            changed = 255 * perturbation(chunk / 255, frame_channels)
            parts.append(log_probabilities(policy, changed.flatten(0, 1)).reshape(*changed.shape[:2], -1))
        yield Comparison(perturbation.name, perturbation.strength, original, th.cat(parts, dim=1))


def compare_renderings(
    policy: BasePolicy, moments: Moments, renderings: Sequence[str], draws: int, generator: th.Generator
) -> Iterator[Comparison]:
    """
    :param policy: a policy that sees images, with discrete actions
    :param moments: ``N`` of them, with the engine's states
    :param renderings: names of renderings that they can be drawn in
    :param draws: largest number of other backgrounds per state
    :param generator: source of randomness on the CPU
    :return: one comparison for each rendering
    """
    original = log_probabilities(policy, as_networks_take_them(policy, moments.observations))
    for rendering in renderings:
        drawn = render(rendering, moments.states or [], draws, generator)
        perturbed = log_probabilities(policy, as_networks_take_them(policy, drawn.reshape(-1, *drawn.shape[2:])))
        yield Comparison(rendering, None, original, perturbed.reshape(len(drawn), *original.shape))


def missing_renderings(moments: Moments) -> dict[str, str]:
    """
    :param moments: what was taken
    :return: renderings that these moments cannot be drawn in, and why
    """
    if moments.states is None:
        return dict.fromkeys(RENDERINGS, "only states of Procgen's native engine, without generated assets, are saved")
    if not np.array_equal(draw_states(moments.states), moments.observations):
        return dict.fromkeys(RENDERINGS, "the policy does not see the engine's picture alone, but stacked frames say")
    reasons = {rendering: why_not(rendering, moments.states[0]) for rendering in RENDERINGS}
    return {rendering: reason for rendering, reason in reasons.items() if reason is not None}
