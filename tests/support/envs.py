"""Small environments for the tests."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class BrightSideEnv(gym.Env):
    """
    Noise with one brighter half: reward 1 for naming its side. Eight images an episode, then a time limit.

    A policy that knows nothing gets 4 on average, a perfect one 8.
    """

    observation_space = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    action_space = spaces.Discrete(2)

    def _observe(self) -> np.ndarray:
        self.side = int(self.np_random.integers(2))
        image = self.np_random.integers(0, 100, self.observation_space.shape, dtype=np.uint8)
        half = slice(18, 36) if self.side else slice(0, 18)
        image[:, :, half] += 80
        return image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self._observe(), {}

    def step(self, action):
        reward = float(action == self.side)
        self.n_steps += 1
        return self._observe(), reward, False, self.n_steps >= 8, {}


class RandomSpacesEnv(gym.Env):
    """Samples of any observation space, rewarded at random; ends or is cut off after a few steps."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        end = self.np_random.random()
        return self.observation_space.sample(), float(self.np_random.normal()), end < 0.05, end > 0.95, {}


def maker(*args) -> Callable[[], gym.Env]:
    return lambda: RandomSpacesEnv(*args)
