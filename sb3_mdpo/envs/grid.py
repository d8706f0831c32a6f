"""A small vectorised image environment whose levels have a layout, which is the task, and an irrelevant look."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_mdpo.envs.engine import EngineVecEnv
from sb3_mdpo.envs.grid_levels import (
    GRID_SIZE,
    IMAGE_SHAPE,
    MAX_CONTRAST,
    enlarged,
    levels_of,
    random_below,
    random_word,
    with_agents,
)
from sb3_mdpo.envs.procgen_options import SEED_RANGE

# Up, down, left, right, as (row, column)
MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
MAX_EPISODE_STEPS = 24


class TexturedGridVecEnv(EngineVecEnv):
    """
    Vectorised 8x8 grids in which a white agent has to reach a black goal.

    A cell is 2x2 pixels. A level is a layout (a start and a goal at least 4 steps apart), which is the task, and a look
    (a background colour, and a 4x4 texture tiled over the image), which is irrelevant. By default both are functions of
    the level's seed. With ``num_layouts``, levels are looks only, and every episode draws its layout.

    The four actions are up, down, left and right; the border stops the agent. Reaching the goal ends the episode with
    reward 1. After 24 steps the episode is truncated.

    Wrap it in SB3's ``VecMonitor`` for episode statistics. ``infos`` contains ``level_seed`` (the level of the
    observation, with ``num_layouts`` its look), ``prev_level_seed`` (the level of the step), ``is_success``,
    ``TimeLimit.truncated`` and, at the end of an episode, ``terminal_observation``.

    The sequence of levels is a function of the seed passed to ``seed()`` or the constructor. ``reset()`` gives every
    environment a new level; after another ``seed()`` the sequence restarts.

    :param num_envs: number of environments
    :param num_levels: number of levels to draw from, 0 for all 2**31
    :param start_level: first level; level 0 follows level 2**31 - 1
    :param seed: determines which levels are played in which order; random if None
    :param render_mode: None, or ``"rgb_array"`` for images of 256x256 pixels. ``"human"`` has the same effect, because
        SB3 shows these images in a window
    :param num_layouts: number of layouts to draw from, independently of the look: those of levels 0 to
        ``num_layouts - 1``, 0 for all. None for the level's own layout
    :param contrast: of the textures, from 0 (none) to 8
    :raises ValueError: if an argument is out of range
    """

    def __init__(
        self,
        num_envs: int,
        num_levels: int = 0,
        start_level: int = 0,
        seed: int | None = None,
        render_mode: str | None = None,
        num_layouts: int | None = None,
        contrast: int = 1,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs} must be at least 1.")
        numbers = {"num_levels": num_levels, "start_level": start_level}
        if num_layouts is not None:
            numbers["num_layouts"] = num_layouts
        for name, value in numbers.items():
            if not (isinstance(value, int) and 0 <= value < SEED_RANGE):
                raise ValueError(f"{name}={value!r} must be an integer from 0 to {SEED_RANGE - 1}.")
        if not (isinstance(contrast, int) and 0 <= contrast <= MAX_CONTRAST):
            raise ValueError(f"contrast={contrast!r} must be an integer from 0 to {MAX_CONTRAST}.")
        if render_mode not in (None, "human", "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r} is unknown: use 'rgb_array', 'human' or None.")
        self.num_levels = num_levels
        self.start_level = start_level
        self.num_layouts = num_layouts
        self.contrast = contrast
        self.render_mode = "rgb_array" if render_mode else None
        self._started = False
        super().__init__(num_envs, spaces.Box(0, 255, IMAGE_SHAPE, np.uint8), spaces.Discrete(len(MOVES)))
        self.metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 8}  # type: ignore[dict-item]
        self._keys = np.zeros(num_envs, np.uint64)
        self._episodes = np.zeros(num_envs, np.uint64)
        self._level_seeds = np.zeros(num_envs, np.int64)
        self._scenes = np.zeros((num_envs, *IMAGE_SHAPE), np.uint8)
        self._agents = np.zeros((num_envs, 2), np.int64)
        self._goals = np.zeros((num_envs, 2), np.int64)
        self._steps = np.zeros(num_envs, np.int64)
        self._actions: NDArray[Any] = np.zeros(num_envs, np.int64)
        self.seed(seed)

    @property
    def env_id(self) -> str:
        """Gymnasium id of single environments."""
        return "TexturedGrid-v0"

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Arguments of these single environments: what their levels are."""
        names = ("num_levels", "start_level", "num_layouts", "contrast")
        return {name: getattr(self, name) for name in names}

    def reset(self) -> VecEnvObs:
        if self._seeds[0] is not None:
            key = random_word(np.array([self._seeds[0] % 2**64], np.uint64), np.zeros(1, np.uint64))
            self._keys = random_word(key, np.arange(self.num_envs, dtype=np.uint64))
            self._episodes[:] = 0
            self._level_seeds[:] = 0
            self._reset_seeds()
        self._reset_options()
        previous = self._level_seeds.tolist()
        self._start_episodes(np.arange(self.num_envs))
        self._started = True
        self.reset_infos = [
            {"level_seed": level, "prev_level_seed": before, "is_success": False}
            for level, before in zip(self._level_seeds.tolist(), previous, strict=True)
        ]
        return with_agents(self._scenes, self._agents)

    def _start_episodes(self, which: NDArray[np.int64]) -> None:
        words = random_word(self._keys[which], self._episodes[which])
        level_seeds = (self.start_level + random_below(words, self.num_levels or SEED_RANGE)) % SEED_RANGE
        layout_seeds = level_seeds
        if self.num_layouts is not None:
            # Hashed once more, so that looks and layouts are independent
            words = random_word(words, np.zeros(1, np.uint64))
            layout_seeds = random_below(words, self.num_layouts or SEED_RANGE)
        levels = levels_of(level_seeds, layout_seeds, self.contrast)
        self._level_seeds[which] = level_seeds
        self._scenes[which], self._agents[which], self._goals[which] = levels
        self._episodes[which] += np.uint64(1)
        self._steps[which] = 0

    def step_async(self, actions: NDArray[Any]) -> None:
        if not self._started:
            raise RuntimeError("The environments have not started yet: call reset() before step().")
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.min() < 0 or actions.max() >= len(MOVES):
            raise ValueError(f"Invalid actions {actions!r}: pass {self.num_envs} integers from 0 to {len(MOVES) - 1}.")
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        self._agents = np.clip(self._agents + MOVES[self._actions], 0, GRID_SIZE - 1)
        self._steps += 1
        successes = (self._agents == self._goals).all(axis=1)
        dones = successes | (self._steps >= MAX_EPISODE_STEPS)
        observations = with_agents(self._scenes, self._agents)
        infos: list[dict[str, Any]] = [
            {"level_seed": level, "prev_level_seed": level, "is_success": False, "TimeLimit.truncated": False}
            for level in self._level_seeds.tolist()
        ]
        ended = np.flatnonzero(dones)
        if len(ended):
            terminal_observations = observations[ended]
            self._start_episodes(ended)
            observations[ended] = with_agents(self._scenes[ended], self._agents[ended])
            for idx, terminal_observation in zip(ended.tolist(), terminal_observations, strict=True):
                success = bool(successes[idx])
                infos[idx] |= {
                    "level_seed": int(self._level_seeds[idx]),
                    "is_success": success,
                    "TimeLimit.truncated": not success,
                    "terminal_observation": terminal_observation,
                }
        return observations, successes.astype(np.float32), dones, infos

    def get_images(self) -> list[NDArray[Any] | None]:
        if self.render_mode is None or not self._started:
            return [None] * self.num_envs
        return [enlarged(image) for image in with_agents(self._scenes, self._agents)]

    def close(self) -> None:
        """No resources to release."""
