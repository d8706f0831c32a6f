"""The textured grid as a single Gymnasium environment."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sb3_mdpo.envs.grid import TexturedGridVecEnv
from sb3_mdpo.envs.grid_levels import enlarged
from sb3_mdpo.envs.procgen_options import SEED_RANGE


class TexturedGridEnv(gym.Env[NDArray[np.uint8], np.int64]):
    """
    A single environment of :class:`~sb3_mdpo.envs.TexturedGridVecEnv`. ``reset(seed=...)`` restarts the sequence of
    levels. At the end of an episode, ``step()`` returns the last observation and its ``level_seed``.

    :param num_levels: number of levels to draw from, 0 for all 2**31
    :param start_level: first level
    :param render_mode: None, or ``"rgb_array"`` for images of 256x256 pixels. ``"human"`` has the same effect, because
        SB3 shows these images in a window
    :param num_layouts: number of layouts to draw from, 0 for all; None for the level's own layout
    :param contrast: of the textures, from 0 (none) to 8
    :raises ValueError: if an argument is out of range
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        num_levels: int = 0,
        start_level: int = 0,
        render_mode: str | None = None,
        num_layouts: int | None = None,
        contrast: int = 1,
    ) -> None:
        self._engine = TexturedGridVecEnv(1, num_levels, start_level, 0, render_mode, num_layouts, contrast)
        self.render_mode = self._engine.render_mode
        self.observation_space = self._engine.observation_space
        self.action_space = self._engine.action_space  # type: ignore[assignment]
        # The engine starts the next episode itself: its first observation and info are kept for reset()
        self._next: tuple[NDArray[np.uint8], dict[str, Any]] | None = None
        self._observation: NDArray[np.uint8] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None and self._observation is None:
            seed = int(self.np_random.integers(SEED_RANGE))
        if seed is not None:
            self._engine.seed(seed)
        if seed is not None or self._next is None:
            observations = np.asarray(self._engine.reset())
            self._next = observations[0], self._engine.reset_infos[0]
        (self._observation, info), self._next = self._next, None
        return self._observation, info

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        if self._next is not None:
            raise RuntimeError("The episode is over: call reset() before step().")
        observations, rewards, dones, (info,) = self._engine.step(np.array([action]))
        first = np.asarray(observations)[0]
        done, truncated = bool(dones[0]), info.pop("TimeLimit.truncated")
        self._observation = info.pop("terminal_observation") if done else first
        if done:
            self._next = first, info | {"is_success": False}
            info = info | {"level_seed": info["prev_level_seed"]}
        return self._observation, float(rewards[0]), done and not truncated, truncated, info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        if self.render_mode is None or self._observation is None:
            return None
        return enlarged(self._observation)
