"""Observations of policies on unseen levels, and the features that encoders extract from them."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from tqdm import tqdm

from sb3_mdpo.lab.generalization.policies import members_of
from sb3_mdpo.lab.generalization.trained import TrainedModel
from sb3_mdpo.lab.perturbations.images import Perturbation
from sb3_mdpo.lab.state_sampling import check_can_be_perturbed, sample_states, to_tensor

BATCH_SIZE = 32
UNCHANGED = Perturbation("none", None, partial(th.unsqueeze, dim=0))


def collect_observations(trained: Sequence[TrainedModel], n_observations: int, seed: int = 0) -> NDArray[np.uint8]:
    """
    Observations on unseen levels, an equal share (give or take one) from the play of each member of each model, see
    :func:`~sb3_mdpo.lab.state_sampling.sample_states`.

    :return: images, shape ``(n_observations, channels, height, width)``, first those of the first model's first member
    :raises ValueError: if the models do not observe images, or not the same, their actions are not Discrete, or there
        are fewer observations than members
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
    players = [(one, policy) for one in trained for policy in members_of(one.model).values()]
    least = max(len(players), 2)
    if n_observations < least:
        raise ValueError(f"{n_observations} observation(s): use at least {least} here, better some hundreds.")
    shares = [len(part) for part in np.array_split(np.arange(n_observations), len(players))]
    images = []
    for k, (one, policy) in enumerate(tqdm(players, desc="Playing", unit="policy")):
        sampled = sample_states(one, policy, shares[k], seed + k)
        images.append(to_tensor(policy, sampled.observations[: shares[k]]).cpu().numpy())
    return np.concatenate(images)


def features_of(policy: ActorCriticPolicy, images: th.Tensor) -> NDArray[np.float32]:
    """
    :param images: images with values from 0 to 255, shape ``(B, channels, height, width)``
    :return: output of the encoder without dropout, shape ``(B, F)``; the actor's if the critic has another one
    """
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
    :param policies: policies by name, on the same device
    :param images: ``N`` images, shape ``(N, channels, height, width)``
    :param perturbations: each makes one or several of the ``V`` versions of an image
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
