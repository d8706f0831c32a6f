"""States of a policy's own play on unseen levels, far enough apart to differ, and its action probabilities in them."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import ceil, log
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.mutual_policy import MutualPolicy
from sb3_mdpo.envs import ProcgenVecEnv
from sb3_mdpo.envs.native import UNSEEN_LEVELS
from sb3_mdpo.lab.generalization.evaluation import members_of
from sb3_mdpo.lab.generalization.trained import TrainedModel
from sb3_mdpo.lab.provenance import sha256_of

BATCH_SIZE = 256
MAX_ENVS = 64
SPACING = 64
MIN_STEPS = 256


@dataclass(frozen=True)
class SampledStates:
    """States of ``n_envs`` environments, visit after visit."""

    observations: NDArray[Any]  #: as the environments return them, shape ``(visits * n_envs, ...)``
    engine_states: list[bytes] | None  #: Procgen's states behind them, None if they are not available
    n_envs: int
    players: tuple[str | None, ...] = ()  #: hashes of the models whose play they are of; empty: a single policy's own

    def visit(self, k: int) -> slice:
        """The place of the ``k``-th state of every environment."""
        return slice(k * self.n_envs, (k + 1) * self.n_envs)


def check_can_be_perturbed(trained: TrainedModel) -> None:
    """Raise ValueError if the model does not observe images, or its actions are not Discrete."""
    observed, actions = trained.model.observation_space, trained.model.action_space
    if not is_image_space(observed):
        raise ValueError(
            f"{trained.path} observes {observed}, but perturbations are for images: use a model that observes images "
            "(uint8, values 0 to 255), e.g. of procgen-coinrun-easy-v0."
        )
    if isinstance(next(iter(members_of(trained.model).values())), RecurrentActorCriticPolicy):
        raise ValueError(f"The policies of {trained.path} are recurrent, single images do not tell what they do.")
    if not isinstance(actions, spaces.Discrete):
        raise ValueError(f"The actions of {trained.path} are {actions}: use a model with Discrete actions.")


def frame_channels(trained: TrainedModel) -> int:
    """Channels of a single frame, of which a model's observations may stack several."""

    def channels(space: Any) -> int:
        return int(space.shape[0 if is_image_space_channels_first(space) else -1])

    stacked = channels(trained.model.observation_space)
    with closing(trained.make_env(1, 0)) as env:
        single = channels(env.unwrapped.observation_space)
    return single if stacked % single == 0 else stacked


@th.no_grad()
def log_probabilities(policy: BasePolicy, observations: th.Tensor) -> th.Tensor:
    """
    Log probabilities ``(B, A)`` of the discrete actions of a member, or of the average of the members of a
    :class:`~sb3_mdpo.common.mutual_policy.MutualPolicy`, in float64, on the CPU. Images have values from 0 to 255.
    """
    policy.set_training_mode(False)
    batches = th.split(observations, BATCH_SIZE)
    return th.cat([_log_probabilities(policy, batch.to(policy.device)).cpu() for batch in batches])


def _log_probabilities(policy: Any, observations: th.Tensor) -> th.Tensor:
    if isinstance(policy, MutualPolicy):
        members = th.stack([_log_probabilities(member, observations) for member in policy.members])
        return members.logsumexp(dim=0) - log(len(members))
    logits: th.Tensor = policy.get_distribution(observations).distribution.logits
    return logits.double().log_softmax(dim=-1)


def to_tensor(policy: BasePolicy, observations: NDArray[Any]) -> th.Tensor:
    """Inputs of the policy's networks, with channels first if they are images, from environments' observations."""
    tensor, _ = policy.obs_to_tensor(observations)
    assert isinstance(tensor, th.Tensor)
    return tensor


def sample_actions(policy: BasePolicy, observations: th.Tensor, generator: th.Generator) -> NDArray[Any]:
    """Discrete actions, as environments take them, from the policy's distributions."""
    assert isinstance(policy.action_space, spaces.Discrete)
    actions = th.multinomial(log_probabilities(policy, observations).exp(), 1, generator=generator).flatten()
    sampled: NDArray[Any] = actions.numpy() + policy.action_space.start
    return sampled


def play(policy: BasePolicy, env: VecEnv, generator: th.Generator) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Play with sampled actions: observations before each step, and whether the previous step ended an episode."""
    observations: Any = env.reset()
    dones = np.zeros(env.num_envs, dtype=bool)
    while True:
        yield observations, dones
        observations, _, dones, _ = env.step(sample_actions(policy, to_tensor(policy, observations), generator))


def sampling_steps(n_states: int, seed: int) -> NDArray[np.int64]:
    """
    Step of each sample, shape ``(visits, n_envs)``: play is split into windows of at least 64 steps, one per visit,
    with a random step for each of up to 64 environments in each.
    """
    visits = ceil(n_states / MAX_ENVS)
    n_envs = ceil(n_states / visits)
    window = max(SPACING, MIN_STEPS // visits)
    within = th.randint(window, (visits, n_envs), generator=th.Generator().manual_seed(seed)).numpy()
    steps: NDArray[np.int64] = np.arange(visits)[:, None] * window + within
    return steps


def sample_states(trained: TrainedModel, policy: BasePolicy, n_states: int, seed: int) -> SampledStates:
    """
    Let a policy play unseen levels with sampled actions, and take states that are spread over environments and time,
    ``n_states`` rounded up to the same number from each of up to 64 environments.
    """
    sampled_at = sampling_steps(n_states, seed)
    n_envs = sampled_at.shape[1]
    samples: dict[tuple[int, int], tuple[NDArray[Any], bytes]] = {}  # by visit and environment
    with closing(trained.make_env(n_envs, seed, **UNSEEN_LEVELS)) as env:
        engine: Any = env.unwrapped
        saves_states = isinstance(engine, ProcgenVecEnv) and not engine.options.use_generated_assets
        played = play(policy, env, th.Generator().manual_seed(seed))
        for step, (current, _) in zip(range(sampled_at.max() + 1), played, strict=False):
            due = np.argwhere(sampled_at == step).tolist()
            states = engine.get_state() if saves_states and due else [b""] * n_envs
            samples |= {(visit, index): (current[index].copy(), states[index]) for visit, index in due}
    observations, engine_states = zip(*(samples[key] for key in sorted(samples)), strict=True)
    return SampledStates(np.stack(observations), list(engine_states) if saves_states else None, n_envs)


def sample_from_all(models: Sequence[TrainedModel], n_states: int, seed: int) -> SampledStates:
    """
    States of the play of all members of all models, the same number of each: ``n_states`` rounded up. Every member
    plays in environments of its own, see :func:`sample_states`.
    """
    players = [(one, policy) for one in models for policy in members_of(one.model).values()]
    share = ceil(n_states / len(players))
    parts = [sample_states(one, policy, share, seed + k) for k, (one, policy) in enumerate(players)]
    visits = [(part, part.visit(k)) for k in range(len(sampling_steps(share, seed))) for part in parts]
    have_states = all(part.engine_states is not None for part in parts)
    return SampledStates(
        np.concatenate([part.observations[places] for part, places in visits]),
        [state for part, places in visits for state in (part.engine_states or [])[places]] if have_states else None,
        sum(part.n_envs for part in parts),
        tuple(map(sha256_of, models)),
    )
