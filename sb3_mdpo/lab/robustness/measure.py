"""The robustness of a trained model's policies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from tqdm import tqdm

from sb3_mdpo.envs.native import UNSEEN_LEVELS
from sb3_mdpo.lab.generalization.evaluation import all_policies, check_seed
from sb3_mdpo.lab.generalization.results import CONFIDENCE
from sb3_mdpo.lab.generalization.trained import TrainedModel
from sb3_mdpo.lab.perturbations.images import (
    COLOR_PERTURBATIONS,
    RANDOM_CONVOLUTION,
    Perturbation,
    image_perturbations,
)
from sb3_mdpo.lab.perturbations.renderings import RENDERINGS, draw_states, render, why_not
from sb3_mdpo.lab.provenance import describe_model
from sb3_mdpo.lab.robustness.distances import (
    entropy,
    kl_divergence,
    mean_interval,
    total_variation,
    variation_between_states,
)
from sb3_mdpo.lab.robustness.results import Robustness, RobustnessRow, Unperturbed
from sb3_mdpo.lab.robustness.returns import PerturbedPlay, Returns
from sb3_mdpo.lab.state_sampling import (
    SampledStates,
    check_can_be_perturbed,
    frame_channels,
    log_probabilities,
    sample_states,
    to_tensor,
)

CHUNK_SIZE = 512  # images that are perturbed at once


def robustness_settings(
    trained: TrainedModel, states: int, draws: int, seed: int, episodes: int, players: Sequence[str | None] = ()
) -> dict[str, Any]:
    """What decides the numbers of :func:`measure_robustness`; ``players`` as in its shared states."""
    return {
        **describe_model(trained),
        "env_id": trained.env_id,
        "env_kwargs": trained.env_kwargs | UNSEEN_LEVELS,
        "states": states,
        "players": list(players),
        "draws": draws,
        "episodes": episodes,
        "seed": seed,
        "deterministic": False,
        "confidence": CONFIDENCE,
        "kl": "KL(original || perturbed)",
    }


def measure_robustness(
    trained: TrainedModel,
    states: int = 256,
    draws: int = 32,
    seed: int = 0,
    progress: bool = True,
    episodes: int = 0,
    shared: SampledStates | None = None,
) -> Robustness:
    """
    Compare each policy's action distributions in states of unseen levels, with the original and with perturbed
    observations: random convolutions, changes of color, and other renderings of Procgen.

    :param trained: a model that observes images and has Discrete actions
    :param states: states per policy, at least 2; rounded up to the same number from each of up to 64 environments
    :param draws: number of random convolutions, at least 2, and largest number of other backgrounds per state
    :param seed: seed of levels, actions and perturbations, the same for all policies
    :param progress: whether to show a progress bar
    :param episodes: episodes that each policy plays under each perturbation for its return; 0 for none
    :param shared: ``states`` states that several models are measured in, of
        :func:`~sb3_mdpo.lab.state_sampling.sample_from_all`; None for those of each policy's own play
    :return: the numbers of each member and, if there are several, of the ensemble
    :raises ValueError: if the model does not observe images, its actions are not Discrete, there are too few states,
        draws or episodes, or the seed is out of range
    """
    check_can_be_perturbed(trained)
    check_seed(seed)
    if states < 2 or draws < 2:
        few = f"{states} state(s) give" if states < 2 else f"{draws} random convolution(s) give"
        raise ValueError(f"{few} no interval: use at least 2.")
    channels = frame_channels(trained)
    perturbations = image_perturbations(draws, channels, th.Generator().manual_seed(seed))
    policies = all_policies(trained.model)
    played = PerturbedPlay(trained, perturbations, channels, episodes, seed)
    unperturbed: list[Unperturbed] = []
    rows: list[RobustnessRow] = []
    omitted: dict[str, str] = {}
    with tqdm(total=len(policies) * len(perturbations), unit="perturbation", disable=not progress) as bar:
        for name, policy in policies.items():
            bar.set_description(f"{name} plays")
            sampled = sample_states(trained, policy, states, seed) if shared is None else shared
            omitted = missing_renderings(sampled)
            renderings = [rendering for rendering in RENDERINGS if rendering not in omitted]
            bar.total += len(renderings)
            images = to_tensor(policy, sampled.observations)
            original = log_probabilities(policy, images)
            varies = variation_between_states(original, sampled.n_envs)
            unperturbed.append(Unperturbed(name, float(entropy(original).mean()), varies, **played.returns(policy)))
            drawn = th.Generator().manual_seed(seed)
            comparisons = chain(
                compare_images(policy, images, original, perturbations, channels),
                compare_renderings(policy, sampled.engine_states or [], original, renderings, draws, drawn),
            )
            for comparison in comparisons:
                bar.set_description(f"{name}, {comparison.perturbation}")
                returns = played.returns(policy, comparison.perturbation, comparison.strength)
                rows.append(make_row(name, comparison, sampled.n_envs, returns))
                bar.update()
    if channels == 1:
        omitted |= dict.fromkeys(COLOR_PERTURBATIONS, "the images are grey")
    settings = robustness_settings(trained, states, draws, seed, episodes, sampled.players)
    settings |= {"n_envs": sampled.n_envs, "omitted": omitted}
    return Robustness(settings, tuple(unperturbed), tuple(rows))


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


def make_row(policy: str, comparison: Comparison, n_envs: int, returns: Returns) -> RobustnessRow:
    """Means, intervals, and maxima over ``visits * n_envs`` states and the draws."""
    numbers: dict[str, Any] = dict(returns)
    shared_draws = comparison.perturbation == RANDOM_CONVOLUTION
    for name, distance in (("kl", kl_divergence), ("tv", total_variation)):
        distances = distance(comparison.original, comparison.perturbed)
        low, high = mean_interval(distances, n_envs, shared_draws)
        numbers |= {f"{name}_mean": float(distances.mean()), f"{name}_low": low, f"{name}_high": high}
        numbers[f"{name}_max"] = float(distances.max())
    numbers["entropy"] = float(entropy(comparison.perturbed).mean())
    n_states = len(comparison.original)
    return RobustnessRow(policy, comparison.perturbation, comparison.strength, n_states, **numbers)


def compare_images(
    policy: BasePolicy,
    images: th.Tensor,
    original: th.Tensor,
    perturbations: Sequence[Perturbation],
    frame_channels: int,
) -> Iterator[Comparison]:
    """Compare under perturbations of images. Each frame of ``frame_channels`` channels is changed alike."""
    for perturbation in perturbations:
        draws = len(perturbation.draws)
        parts = []
        for chunk in th.split(images, max(1, CHUNK_SIZE // draws)):
            changed = 255 * perturbation(chunk / 255, frame_channels)
            parts.append(log_probabilities(policy, changed.flatten(0, 1)).reshape(*changed.shape[:2], -1))
        yield Comparison(perturbation.name, perturbation.strength, original, th.cat(parts, dim=1))


def compare_renderings(
    policy: BasePolicy,
    engine_states: Sequence[bytes],
    original: th.Tensor,
    renderings: Sequence[str],
    draws: int,
    generator: th.Generator,
) -> Iterator[Comparison]:
    """Compare under other renderings of the engine's states, with at most ``draws`` other backgrounds per state."""
    for rendering in renderings:
        images = render(rendering, engine_states, draws, generator)
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
