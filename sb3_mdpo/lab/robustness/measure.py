"""The robustness of a trained model's policies."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from tqdm import tqdm

from sb3_mdpo.envs.native import UNSEEN_LEVELS
from sb3_mdpo.lab.generalization.evaluation import all_policies, check_seed
from sb3_mdpo.lab.generalization.results import CONFIDENCE, confidence_interval
from sb3_mdpo.lab.generalization.trained import TrainedModel
from sb3_mdpo.lab.perturbations.images import COLOR_PERTURBATIONS, Perturbation, image_perturbations
from sb3_mdpo.lab.perturbations.renderings import RENDERINGS, draw_states, render, why_not
from sb3_mdpo.lab.state_sampling import (
    SampledStates,
    check_can_be_perturbed,
    frame_channels,
    log_probabilities,
    sample_states,
    to_tensor,
)
from sb3_mdpo.utils.terminal import text_table

CHUNK_SIZE = 512  # images that are perturbed at once
HEADER = ("policy", "perturbation", "strength", "KL", "95% interval", "max", "TV", "95% interval", "max")


@dataclass(frozen=True)
class RobustnessRow:
    """
    One policy under one perturbation at one strength, over ``n`` states: mean, interval and maximum over states and
    draws of ``KL(original || perturbed)`` in nats and of the total variation. Intervals are Student's t intervals of
    the mean over environments, because states of one environment are not independent.
    """

    policy: str
    perturbation: str
    strength: float | None
    n: int
    kl_mean: float
    kl_low: float
    kl_high: float
    kl_max: float
    tv_mean: float
    tv_low: float
    tv_high: float
    tv_max: float


@dataclass(frozen=True)
class Robustness:
    """What was measured and how, with the perturbations that were left out and why as ``omitted``; the numbers."""

    settings: dict[str, Any]
    rows: tuple[RobustnessRow, ...]

    def to_json(self) -> str:
        """A JSON document with ``settings`` and ``rows``."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    def to_text(self) -> str:
        """A table with one line per row, then what was omitted and why."""
        rows = []
        for row in self.rows:
            kl = (f"{row.kl_mean:.3g}", f"{row.kl_low:.3g} to {row.kl_high:.3g}", f"{row.kl_max:.3g}")
            tv = (f"{row.tv_mean:.3g}", f"{row.tv_low:.3g} to {row.tv_high:.3g}", f"{row.tv_max:.3g}")
            rows.append((row.policy, row.perturbation, "" if row.strength is None else f"{row.strength:g}", *kl, *tv))
        notes = [f"No {name!r}: {reason}." for name, reason in self.settings["omitted"].items()]
        caption = (
            f"{self.settings['kl']} in nats and total variation of the action distributions; "
            f"{self.settings['states']} states of each policy's own play on unseen levels, from "
            f"{self.settings['n_envs']} environments"
        )
        return "\n".join([text_table(HEADER, rows, left=(0, 1)), caption, *notes])


def measure_robustness(
    trained: TrainedModel, states: int = 256, draws: int = 32, seed: int = 0, progress: bool = True
) -> Robustness:
    """
    Compare each policy's action distributions in states of its own play on unseen levels, with the original and with
    perturbed observations: random convolutions, changes of color, and other renderings of Procgen.

    :param trained: a model that observes images and has Discrete actions
    :param states: states per policy, at least 2; rounded up to the same number from each of up to 64 environments
    :param draws: number of random convolutions, and largest number of other backgrounds per state
    :param seed: seed of levels, actions and perturbations, the same for all policies
    :param progress: whether to show a progress bar
    :return: the numbers of each member and, if there are several, of the ensemble
    :raises ValueError: if the model does not observe images, its actions are not Discrete, there are too few states
        or draws, or the seed is out of range
    """
    check_can_be_perturbed(trained)
    check_seed(seed)
    if states < 2:
        raise ValueError(f"{states} state(s) give no interval: use at least 2.")
    channels = frame_channels(trained)
    perturbations = image_perturbations(draws, channels, th.Generator().manual_seed(seed))
    policies = all_policies(trained.model)
    rows: list[RobustnessRow] = []
    omitted: dict[str, str] = {}
    with tqdm(total=len(policies) * len(perturbations), unit="perturbation", disable=not progress) as bar:
        for name, policy in policies.items():
            bar.set_description(f"{name} plays")
            sampled = sample_states(trained, policy, states, seed)
            omitted = missing_renderings(sampled)
            renderings = [rendering for rendering in RENDERINGS if rendering not in omitted]
            bar.total += len(renderings)
            comparisons = chain(
                compare_images(policy, sampled, perturbations, channels),
                compare_renderings(policy, sampled, renderings, draws, th.Generator().manual_seed(seed)),
            )
            for comparison in comparisons:
                bar.set_description(f"{name}, {comparison.perturbation}")
                rows.append(make_row(name, comparison, sampled.n_envs))
                bar.update()
    if channels == 1:
        omitted |= dict.fromkeys(COLOR_PERTURBATIONS, "the images are grey")
    settings = {
        "env_id": trained.env_id,
        "env_kwargs": trained.env_kwargs | UNSEEN_LEVELS,
        "timesteps": trained.model.num_timesteps,
        "states": len(sampled.observations),
        "n_envs": sampled.n_envs,
        "draws": draws,
        "seed": seed,
        "deterministic": False,
        "confidence": CONFIDENCE,
        "kl": "KL(original || perturbed)",
        "omitted": omitted,
    }
    return Robustness(settings, tuple(rows))


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
    Log probabilities of the actions in the same states, shape ``(N, A)``, and with perturbed images, shape
    ``(draws, N, A)``; ``strength`` is None for a perturbation that has none.
    """

    perturbation: str
    strength: float | None
    original: th.Tensor
    perturbed: th.Tensor


def make_row(policy: str, comparison: Comparison, n_envs: int) -> RobustnessRow:
    """Means, intervals over environments, and maxima over states and draws of ``visits * n_envs`` states."""
    numbers: dict[str, float] = {}
    for name, distance in (("kl", kl_divergence), ("tv", total_variation)):
        distances = distance(comparison.original, comparison.perturbed)
        env_means = distances.mean(dim=0).reshape(-1, n_envs).mean(dim=0)
        low, high = confidence_interval(env_means.tolist())
        numbers |= {f"{name}_mean": float(distances.mean()), f"{name}_low": low, f"{name}_high": high}
        numbers[f"{name}_max"] = float(distances.max())
    return RobustnessRow(policy, comparison.perturbation, comparison.strength, len(comparison.original), **numbers)


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
