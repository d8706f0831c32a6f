"""The robustness of a trained model's policies."""

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch as th
from tqdm import tqdm

from sb3_mdpo.envs.native import UNSEEN_LEVELS
from sb3_mdpo.lab.generalization.evaluation import check_seed
from sb3_mdpo.lab.generalization.intervals import CONFIDENCE, confidence_interval
from sb3_mdpo.lab.generalization.policies import all_policies
from sb3_mdpo.lab.generalization.trained import TrainedModel
from sb3_mdpo.lab.perturbations.images import OF_COLOURS, Perturbation, image_perturbations
from sb3_mdpo.lab.perturbations.renderings import RENDERINGS
from sb3_mdpo.lab.robustness.actions import check_can_be_perturbed, get_channels
from sb3_mdpo.lab.robustness.comparisons import Comparison, compare_images, compare_renderings, missing_renderings
from sb3_mdpo.lab.robustness.divergences import kl_divergence, total_variation
from sb3_mdpo.lab.robustness.state_sampling import collect_moments, schedule


@dataclass(frozen=True)
class RobustnessRow:
    """
    One policy under one perturbation at one strength. Intervals are Student's, of the mean over environments:
    states of one environment are not independent.

    :param policy: ``policy 0`` and so on, ``ensemble``
    :param perturbation: what was changed
    :param strength: by how much; None where there is no such number
    :param n: number of states
    :param kl_mean: mean over states and draws of ``KL(original || perturbed)``, in nats
    :param kl_low: lower end of its interval
    :param kl_high: upper end of its interval
    :param kl_max: maximum over states and draws
    :param tv_mean: the same of the total variation
    :param tv_low: lower end of its interval
    :param tv_high: upper end of its interval
    :param tv_max: maximum over states and draws
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
    """
    :param settings: what was measured, and how; ``omitted`` has the perturbations that could not be had and why
    :param rows: the numbers
    """

    settings: dict[str, Any]
    rows: tuple[RobustnessRow, ...]

    def to_json(self) -> str:
        """
        :return: a JSON document with ``settings`` and ``rows``
        """
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"


def measure_robustness(
    trained: TrainedModel, states: int = 256, draws: int = 32, seed: int = 0, progress: bool = True
) -> Robustness:
    """
    Compare each policy's action distributions on observations of its own behaviour on unseen levels, and on
    the same observations perturbed: by random convolutions, in their colours, and on Procgen drawn otherwise.

    :param trained: the model; sees images, its actions are Discrete
    :param states: states per policy, at least 2; rounded up to the same number from each of up to 64 environments
    :param draws: random convolutions, and at most as many other backgrounds per state
    :param seed: of the levels, the actions and what is random about the perturbations, which all policies share
    :param progress: whether to show a progress bar
    :return: the numbers of each member and, where there are several, of the ensemble
    :raises ValueError: where the model does not see images, its actions are not Discrete, there are too few states, or
        the seed is out of range
    """
    check_can_be_perturbed(trained.model)
    check_seed(seed)
    if states < 2:
        raise ValueError(f"{states} state(s) give no interval: use at least 2.")
    perturbations, frame_channels = _perturbations(trained, draws, seed)
    when = schedule(states, _generator(seed))
    policies = all_policies(trained.model)
    rows: list[RobustnessRow] = []
    omitted: dict[str, str] = {}
    with tqdm(total=len(policies) * when.length, unit="step", disable=not progress) as bar:
        for name, policy in policies.items():
            bar.set_description(f"{name} acts")
            with closing(trained.make_env(when.n_envs, seed, **UNSEEN_LEVELS)) as env:
                moments = collect_moments(policy, env, when, _generator(seed), bar.update)
            omitted = missing_renderings(moments)
            renderings = [rendering for rendering in RENDERINGS if rendering not in omitted]
            comparisons = chain(
                compare_images(policy, moments, perturbations, frame_channels),
                compare_renderings(policy, moments, renderings, draws, _generator(seed)),
            )
            bar.total += len(perturbations) + len(renderings)
            for comparison in comparisons:
                bar.set_description(f"{name}, {comparison.perturbation}")
                rows.append(make_row(name, comparison, when.visits))
                bar.update()
    if frame_channels == 1:
        omitted |= dict.fromkeys(OF_COLOURS, "the images are grey")
    settings = {
        "env_id": trained.env_id,
        "env_kwargs": trained.env_kwargs | UNSEEN_LEVELS,
        "timesteps": trained.model.num_timesteps,
        "states": when.visits * when.n_envs,
        "n_envs": when.n_envs,
        "draws": draws,
        "seed": seed,
        "deterministic": False,
        "confidence": CONFIDENCE,
        "kl": "KL(original || perturbed)",
        "omitted": omitted,
    }
    return Robustness(settings, tuple(rows))


def make_row(policy: str, comparison: Comparison, visits: int) -> RobustnessRow:
    """
    :param policy: its name
    :param comparison: of ``visits * n_envs`` states, visit after visit
    :param visits: states per environment
    :return: means, intervals over environments, and maxima over states and draws
    """
    numbers: dict[str, float] = {}
    for name, distance in (("kl", kl_divergence), ("tv", total_variation)):
        distances = distance(comparison.original, comparison.perturbed)
        of_environments = distances.mean(dim=0).reshape(visits, -1).mean(dim=0)
        low, high = confidence_interval(of_environments.tolist())
        numbers |= {f"{name}_mean": float(distances.mean()), f"{name}_low": low, f"{name}_high": high}
        numbers[f"{name}_max"] = float(distances.max())
    return RobustnessRow(policy, comparison.perturbation, comparison.strength, len(comparison.original), **numbers)


def _perturbations(trained: TrainedModel, draws: int, seed: int) -> tuple[list[Perturbation], int]:
    """Also the channels of a single frame, of which observations may hold several."""
    channels = get_channels(trained.model.observation_space)
    with closing(trained.make_env(1, seed)) as env:
        of_a_frame = get_channels(env.unwrapped.observation_space)
    frame_channels = of_a_frame if channels % of_a_frame == 0 else channels
    return image_perturbations(draws, frame_channels, _generator(seed)), frame_channels


def _generator(seed: int) -> th.Generator:
    return th.Generator().manual_seed(seed)
