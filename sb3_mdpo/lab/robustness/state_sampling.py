"""Moments of a policy's own behaviour on unseen levels, far enough apart to say different things."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.envs import ProcgenVecEnv
from sb3_mdpo.lab.robustness.actions import as_networks_take_them, log_probabilities

MAX_ENVS = 64
SPACING = 64
MIN_STEPS = 256


@dataclass(frozen=True)
class Schedule:
    """
    When to take what: the steps are split into as many windows of equal length as there are visits, and each
    environment is taken once per window, at a random step of its own.

    :param steps: the step of each moment, shape ``(visits, n_envs)``
    :param length: number of steps
    """

    steps: NDArray[np.int64]
    length: int

    @property
    def visits(self) -> int:
        """States per environment."""
        return len(self.steps)

    @property
    def n_envs(self) -> int:
        """Number of environments."""
        return int(self.steps.shape[1])


@dataclass(frozen=True)
class Moments:
    """
    :param observations: as the environments gave them, shape ``(visits * n_envs, ...)``
    :param states: the engine's states behind them; None where they cannot be had
    """

    observations: NDArray[Any]
    states: list[bytes] | None


def schedule(states: int, generator: th.Generator) -> Schedule:
    """
    :param states: number of moments, rounded up to the same number from each environment
    :param generator: source of randomness on the CPU
    :return: from at most 64 environments, and on average at least 64 steps apart
    """
    visits = ceil(states / MAX_ENVS)
    n_envs = ceil(states / visits)
    window = max(SPACING, MIN_STEPS // visits)
    within = th.randint(window, (visits, n_envs), generator=generator).numpy()
    return Schedule(np.arange(visits)[:, None] * window + within, visits * window)


def engine_of(env: VecEnv) -> ProcgenVecEnv | None:
    """
    :param env: environments
    :return: Procgen's engine below their wrappers, where it can save its states; None otherwise
    """
    below = env.unwrapped
    return below if isinstance(below, ProcgenVecEnv) and not below.options.use_generated_assets else None


def collect_moments(
    policy: BasePolicy, env: VecEnv, when: Schedule, generator: th.Generator, on_step: Callable[[], Any]
) -> Moments:
    """
    Let a policy act, with actions sampled from its distribution.

    :param policy: who acts
    :param env: as many environments as the schedule has
    :param when: what to take
    :param generator: source of randomness on the CPU, of the actions
    :param on_step: called after every step
    :return: what was taken, visit after visit
    """
    engine = engine_of(env)
    assert isinstance(env.action_space, spaces.Discrete)
    observations: dict[tuple[int, int], NDArray[Any]] = {}
    states: dict[tuple[int, int], bytes] = {}
    now: Any = env.reset()
    for step in range(when.length):
        due = [(int(visit), int(slot)) for visit, slot in np.argwhere(when.steps == step)]
        engine_states = engine.get_state() if engine and due else []
        for moment in due:
            observations[moment] = now[moment[1]].copy()
            if engine:
                states[moment] = engine_states[moment[1]]
        probabilities = log_probabilities(policy, as_networks_take_them(policy, now)).exp()
        actions = th.multinomial(probabilities, 1, generator=generator).flatten().numpy() + env.action_space.start
        now, _, _, _ = env.step(actions)
        on_step()
    order = sorted(observations)
    return Moments(
        np.stack([observations[moment] for moment in order]),
        [states[moment] for moment in order] if engine else None,
    )
