"""Analysis of the features that the encoders of one or several models extract from the same observations."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations, count
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from tqdm import tqdm

from sb3_mdpo.lab.generalization.evaluation import check_seed, members_of
from sb3_mdpo.lab.generalization.trained import TrainedModel
from sb3_mdpo.lab.perturbations.images import RANDOM_CONVOLUTION, Perturbation, image_perturbations
from sb3_mdpo.lab.provenance import describe_model
from sb3_mdpo.lab.representation.embedding import embed
from sb3_mdpo.lab.representation.measures import distance_ratio, effective_rank, linear_cka
from sb3_mdpo.lab.representation.results import Alignment, FeatureAnalysis, PolicyFeatures
from sb3_mdpo.lab.representation.saliency import saliency_of
from sb3_mdpo.lab.state_sampling import check_can_be_perturbed, frame_channels, sample_from_all, to_tensor

BATCH_SIZE = 32
UNCHANGED = Perturbation("none", None, (lambda images: images,))
TSNE_OBSERVATIONS, SALIENCY_OBSERVATIONS = 4, 6
TSNE_DRAWS = 100


def feature_settings(
    trained: Sequence[TrainedModel], observations: int, draws: int, seed: int, tsne_draws: int = TSNE_DRAWS
) -> dict[str, Any]:
    """What decides the numbers of :func:`analyse_features`."""
    return {
        "env_id": trained[0].env_id,
        "models": [describe_model(one) for one in trained],
        "observations": observations,
        "draws": draws,
        "seed": seed,
        "tsne_draws": tsne_draws,
        "cka": "unbiased",
    }


def analyse_features(
    trained: Sequence[TrainedModel],
    observations: int = 512,
    draws: int = 8,
    seed: int = 0,
    tsne_draws: int = TSNE_DRAWS,
    pictured: Sequence[TrainedModel] | None = None,
) -> FeatureAnalysis:
    """
    Analyse the features of all policies of the models on the same observations
    (:func:`~sb3_mdpo.lab.representation.analysis.collect_observations`) under the same perturbations.

    :param trained: models of the same environment
    :param observations: number of observations, rounded up to the same number from the play of each policy
    :param draws: random convolutions of each observation in the distance ratio, at least 3
    :param seed: seed of levels, actions, perturbations and t-SNE
    :param tsne_draws: random convolutions of each of the four observations in the t-SNE
    :param pictured: those of the models to make t-SNE and saliency maps of, None for all
    :return: the analysis
    :raises ValueError: if the models are of different environments or do not observe images, or a number is too small
    """
    policies = named_policies(trained)
    check_seed(seed)
    if draws < 3:
        raise ValueError(f"{draws} random convolution(s) of each observation: use at least 3 draws to compare them.")
    images = collect_observations(trained, observations, seed)
    channels = frame_channels(trained[0])
    generator = th.Generator().manual_seed(seed)
    perturbations = image_perturbations(draws, channels, generator)
    made_by, features = features_of_versions(policies, images, [UNCHANGED, *perturbations], channels)
    originals = {name: own[:, 0] for name, own in features.items()}
    cka = [Alignment(a, b, linear_cka(originals[a], originals[b])) for a, b in combinations(originals, 2)]
    progress = partial(tqdm, unit="policy")
    owners = owners_of(trained)
    measures = [
        _measure(name, owners[name].path, own, made_by) for name, own in progress(features.items(), desc="Measures")
    ]

    shown = {name: policies[name] for name, one in owners.items() if pictured is None or one in pictured}
    convolutions, *_ = image_perturbations(tsne_draws, channels, generator)
    few = _spread(images, TSNE_OBSERVATIONS)
    versions, tsne_features = features_of_versions(shown, few, [UNCHANGED, convolutions], channels)
    frames = _spread(images, SALIENCY_OBSERVATIONS)
    return FeatureAnalysis(
        settings=feature_settings(trained, observations, draws, seed, tsne_draws) | {"n_observations": len(images)},
        policies=measures,
        cka=cka,
        embeddings={
            name: embed(own.reshape(-1, own.shape[2]), seed).reshape(*own.shape[:2], 2)
            for name, own in progress(tsne_features.items(), desc="t-SNE")
        },
        versions=versions,
        images=frames,
        frame_channels=channels,
        saliency={name: saliency_of(policy, frames, seed) for name, policy in progress(shown.items(), desc="Saliency")},
    )


def _measure(name: str, path: Path, features: NDArray[np.float32], made_by: Sequence[str]) -> PolicyFeatures:
    convolved = [version == RANDOM_CONVOLUTION for version in made_by]
    photometric = [version not in (RANDOM_CONVOLUTION, UNCHANGED.name) for version in made_by]
    return PolicyFeatures(
        name,
        str(path),
        distance_ratio(features[:, convolved]),
        distance_ratio(features[:, photometric]),
        effective_rank(features[:, 0]),
        features.shape[2],
    )


def collect_observations(trained: Sequence[TrainedModel], n_observations: int, seed: int = 0) -> NDArray[np.uint8]:
    """
    Images on unseen levels, the same number from the play of each member of each model: ``n_observations`` rounded up,
    see :func:`~sb3_mdpo.lab.state_sampling.sample_from_all`.
    """
    first = trained[0]
    for one in trained:
        check_can_be_perturbed(one)
        shape, first_shape = one.model.observation_space.shape, first.model.observation_space.shape
        if shape != first_shape:
            raise ValueError(
                f"{one.path} observes images of shape {shape}, {first.path} of {first_shape}: use models that observe "
                "the same images."
            )
    least = max(sum(len(members_of(one.model)) for one in trained), 2)
    if n_observations < least:
        raise ValueError(f"{n_observations} observation(s): use at least {least} here, better some hundreds.")
    sampled = sample_from_all(trained, n_observations, seed)
    return to_tensor(first.model.policy, sampled.observations).cpu().numpy()


def features_of(policy: ActorCriticPolicy, images: th.Tensor) -> NDArray[np.float32]:
    """Output ``(B, F)`` of the encoder without dropout; the actor's if the critic has another one."""
    policy.set_training_mode(False)
    with th.no_grad():
        features = policy.extract_features(images)
    array: NDArray[np.float32] = (features[0] if isinstance(features, tuple) else features).float().cpu().numpy()
    return array


def features_of_versions(
    policies: Mapping[str, ActorCriticPolicy],
    images: NDArray[np.uint8],
    perturbations: Sequence[Perturbation],
    frame_channels: int,
) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
    """
    Features of ``N`` images ``(N, channels, height, width)`` in ``V`` versions, of which each perturbation makes one or
    several.

    :return: name of the perturbation of each version, and for each policy features of shape ``(N, V, F)``
    """
    device = next(iter(policies.values())).device
    batches: dict[str, list[NDArray[np.float32]]] = {name: [] for name in policies}
    for start in tqdm(range(0, len(images), BATCH_SIZE), desc="Features", unit="batch"):
        batch = th.as_tensor(images[start : start + BATCH_SIZE], device=device).float() / 255
        made_by = []
        parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in policies}
        for perturbation in perturbations:
            for version in perturbation(batch, frame_channels):
                made_by.append(perturbation.name)
                for name, policy in policies.items():
                    parts[name].append(features_of(policy, 255 * version))
        for name, versions in parts.items():
            batches[name].append(np.stack(versions, axis=1))
    return made_by, {name: np.concatenate(parts) for name, parts in batches.items()}


def named_policies(trained: Sequence[TrainedModel]) -> dict[str, ActorCriticPolicy]:
    """The members of all models, by the names of :func:`owners_of`."""
    members = [policy for one in trained for policy in members_of(one.model).values()]
    return dict(zip(owners_of(trained), cast(list[ActorCriticPolicy], members), strict=True))


def owners_of(trained: Sequence[TrainedModel]) -> dict[str, TrainedModel]:
    """
    The model of each member: ``policy 0`` and so on, if there are several models after the last parts of their paths
    that differ, e.g. ``mdpo/procgen-coinrun-easy-v0_1 policy 0``.
    """
    for one in trained:
        if one.env_id != trained[0].env_id:
            raise ValueError(
                f"{trained[0].path} is a model of {trained[0].env_id}, {one.path} of {one.env_id}: features are "
                "compared on the same observations, so use models of one environment."
            )
    labels = [f"{label} " if len(trained) > 1 else "" for label in _shortest_names([one.path for one in trained])]
    return {label + name: one for label, one in zip(labels, trained, strict=True) for name in members_of(one.model)}


def _shortest_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as make all names different."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ValueError(f"The same model twice in {', '.join(map(str, paths))}: give each only once.")
    choices = ([str(Path(*own[-n:])) for own in parts] for n in count(1))
    return next(names for names in choices if len(set(names)) == len(names))


def _spread(images: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Up to ``n`` images, evenly spaced."""
    chosen: NDArray[np.uint8] = images[np.linspace(0, len(images) - 1, min(n, len(images))).astype(int)]
    return chosen
