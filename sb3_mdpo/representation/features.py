"""What policies observe on unseen levels, and the features that their encoders make of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import set_random_seed
from tqdm import tqdm

from sb3_mdpo.envs.native import UNSEEN_LEVELS
from sb3_mdpo.generalization.policies import members_of
from sb3_mdpo.generalization.trained import TrainedModel

# Between two observations of one environment, so that they differ; and at most so many environments
SPACING, MAX_ENVS = 20, 64
BATCH_SIZE = 256

# Of images with values 0 to 255, shape (B, channels, height, width), another version of each
Perturbation = Callable[[th.Tensor], th.Tensor]


def collect_observations(trained: Sequence[TrainedModel], n_observations: int, seed: int = 0) -> NDArray[np.uint8]:
    """
    Observations on unseen levels, an equal share (give or take one) from the play of every member of every model, so
    that all of them are judged on what each of them gets to see. Actions are sampled. Every member plays in up to 64
    environments, each of which gives one observation in 20 steps.

    :param trained: models that see the same images
    :param n_observations: how many
    :param seed: seed of levels and actions
    :return: the images as the environments give them, first those of the first model's first member
    :raises ValueError: where the models see no images or not the same, or there are too few observations for
        every member
    """
    check_images(trained)
    players = [(one, policy) for one in trained for policy in members_of(one.model).values()]
    if n_observations < max(len(players), 2):
        raise ValueError(
            f"{n_observations} observation(s) for {len(players)} policies: give at least {max(len(players), 2)}, "
            "better some hundreds."
        )
    shares = [len(part) for part in np.array_split(np.arange(n_observations), len(players))]
    seen = []
    for k, ((one, policy), share) in enumerate(
        tqdm(list(zip(players, shares, strict=True)), desc="Playing", unit="policy")
    ):
        set_random_seed(seed + k)
        n_envs = min(share, MAX_ENVS)
        env = one.make_env(n_envs, seed + k, **UNSEEN_LEVELS)
        observations = env.reset()
        for step in range(1, SPACING * -(-share // n_envs) + 1):
            actions, _ = policy.predict(observations, deterministic=False)
            observations, _, _, _ = env.step(actions)
            if step % SPACING == 0:
                left = share - sum(map(len, seen[k:]))
                seen.append(np.array(observations[:left]))
        env.close()
    return np.concatenate(seen)


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
    observations: NDArray[np.uint8],
    perturbations: Sequence[Perturbation],
    description: str,
) -> dict[str, NDArray[np.float32]]:
    """
    :param policies: policies by name, that see the same images on the same device
    :param observations: ``N`` images as the environments give them
    :param perturbations: what makes the ``D`` versions of a batch of images; all policies see the same ones
    :param description: of the progress bar
    :return: of each policy the features of every version of every observation, shape ``(N, D, F)``
    """
    batches: dict[str, list[NDArray[np.float32]]] = {name: [] for name in policies}
    first = next(iter(policies.values()))
    for start in tqdm(range(0, len(observations), BATCH_SIZE), desc=description, unit="batch"):
        batch = first.obs_to_tensor(observations[start : start + BATCH_SIZE])[0]
        versions = [perturb(batch.float()) for perturb in perturbations]  # type: ignore[union-attr]
        for name, policy in policies.items():
            batches[name].append(np.stack([features_of(policy, version) for version in versions], axis=1))
    return {name: np.concatenate(parts) for name, parts in batches.items()}
