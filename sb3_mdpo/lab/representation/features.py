"""What policies observe on unseen levels, and the features that their encoders make of it."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_mdpo.envs.native import UNSEEN_LEVELS
from sb3_mdpo.lab.generalization.policies import members_of
from sb3_mdpo.lab.generalization.trained import TrainedModel
from sb3_mdpo.lab.perturbations import Perturbation

# Between two observations of one environment, so that they differ; and at most so many environments
SPACING, MAX_ENVS = 20, 64
BATCH_SIZE = 32
UNCHANGED = Perturbation("none", None, partial(th.unsqueeze, dim=0))


def collect_observations(trained: Sequence[TrainedModel], n_observations: int, seed: int = 0) -> NDArray[np.uint8]:
    """
    Observations on unseen levels, an equal share (give or take one) from the play of every member of every model, so
    that all of them are judged on what each of them gets to see. Actions are sampled. Every member plays in up to 64
    environments, each of which gives one observation in 20 steps.

    :param trained: models that see the same images
    :param n_observations: how many
    :param seed: seed of levels and actions
    :return: the images, shape ``(n_observations, channels, height, width)``, first those of the first model's
        first member
    :raises ValueError: where the models see no images or not the same, or there are too few observations for
        every member to give one
    """
    check_images(trained)
    players = [(one, policy) for one in trained for policy in members_of(one.model).values()]
    least = max(len(players), 2)
    if n_observations < least:
        raise ValueError(f"{n_observations} observation(s): give at least {least} here, better some hundreds.")
    shares = [len(part) for part in np.array_split(np.arange(n_observations), len(players))]
    seen = []
    for k, (one, policy) in enumerate(tqdm(players, desc="Playing", unit="policy")):
        set_random_seed(seed + k)
        with closing(one.make_env(min(shares[k], MAX_ENVS), seed + k, **UNSEEN_LEVELS)) as env:
            seen.append(_play(policy, env, shares[k]))
    return np.concatenate(seen)


def _play(policy: ActorCriticPolicy, env: VecEnv, n_observations: int) -> NDArray[np.uint8]:
    observations: Any = env.reset()
    seen: list[NDArray[np.uint8]] = []
    for step in range(1, SPACING * math.ceil(n_observations / env.num_envs) + 1):
        actions, _ = policy.predict(observations, deterministic=False)
        observations, _, _, _ = env.step(actions)
        if step % SPACING == 0:
            images: Any = policy.obs_to_tensor(observations)[0]  # channels first
            seen.append(images.cpu().numpy())
    return np.concatenate(seen)[:n_observations]


def check_images(trained: Sequence[TrainedModel]) -> None:
    """
    :param trained: models
    :raises ValueError: where one sees something else than images, or two see images of different shapes
    """
    first = trained[0]
    for one in trained:
        space = one.model.observation_space
        if not is_image_space(space):
            raise ValueError(
                f"{one.path} observes {space}, and random convolutions and changes of colour are for images "
                "(uint8, values 0 to 255)."
            )
        if space.shape != first.model.observation_space.shape:
            raise ValueError(
                f"{one.path} sees images of shape {space.shape}, {first.path} of "
                f"{first.model.observation_space.shape}: give models that see the same images."
            )


def frame_channels(images: NDArray[np.uint8]) -> int:
    """
    :param images: shape ``(N, channels, height, width)``
    :return: channels of one frame: 3 where their number is a multiple of it, or else stacked shades of grey
    """
    return 3 if images.shape[1] % 3 == 0 else 1


def features_of(policy: ActorCriticPolicy, images: th.Tensor) -> NDArray[np.float32]:
    """
    :param policy: policy on images
    :param images: images with values 0 to 255, shape ``(B, channels, height, width)``
    :return: what its encoder makes of them, as in evaluation (no dropout), shape ``(B, F)``; the actor's
        encoder where the critic has one of its own (``share_features_extractor=False``)
    """
    policy.set_training_mode(False)
    with th.no_grad():
        features = policy.extract_features(images)
    actors = features[0] if isinstance(features, tuple) else features
    array: NDArray[np.float32] = actors.float().cpu().numpy()
    return array


def features_of_versions(
    policies: Mapping[str, ActorCriticPolicy],
    images: NDArray[np.uint8],
    perturbations: Sequence[Perturbation],
) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
    """
    :param policies: policies by name, on the same device
    :param images: ``N`` images that all of them see, shape ``(N, channels, height, width)``
    :param perturbations: what makes the ``V`` versions of the images, each of them one or several
    :return: by what perturbation each version was made, and of each policy the features of every version
        of every image, shape ``(N, V, F)``
    """
    device = next(iter(policies.values())).device
    channels = frame_channels(images)
    batches: dict[str, list[NDArray[np.float32]]] = {name: [] for name in policies}
    for start in tqdm(range(0, len(images), BATCH_SIZE), desc="Features", unit="batch"):
        batch = th.as_tensor(images[start : start + BATCH_SIZE], device=device).float() / 255
        made_by = []
        parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in policies}
        for perturbation in perturbations:
            for version in perturbation(batch, channels):
                made_by.append(perturbation.name)
                for name, policy in policies.items():
                    parts[name].append(features_of(policy, 255 * version))
        for name, versions in parts.items():
            batches[name].append(np.stack(versions, axis=1))
    return made_by, {name: np.concatenate(parts) for name, parts in batches.items()}
