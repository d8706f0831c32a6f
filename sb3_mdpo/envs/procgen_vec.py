"""Procgen's vectorised engine as an SB3 ``VecEnv``."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_mdpo.envs.engine import EngineVecEnv
from sb3_mdpo.envs.pictures import Painter
from sb3_mdpo.envs.procgen_options import N_ACTIONS, OBSERVATION_SHAPE, ProcgenOptions, import_procgen


class ProcgenVecEnv(EngineVecEnv):
    """
    Vectorised environments of one Procgen game, stepped by the engine's threads.

    Wrap it in SB3's ``VecMonitor`` for episode statistics. ``infos`` contains ``level_seed`` (the level of the
    observation), ``prev_level_seed`` and ``is_success`` (whether this step ended the episode at its goal; always False
    with ``use_sequential_levels``). The engine resets itself and never returns an episode's last observation, so there
    is no ``terminal_observation``, and time limits cannot be bootstrapped.

    The engine starts at the first ``reset()``, with the seed passed to ``seed()`` or the constructor. Later resets give
    every environment a new level; after another ``seed()`` the engine restarts.

    :param num_envs: number of environments
    :param env_name: one of the 16 games
    :param num_levels: number of levels to draw from, 0 for all 2**31
    :param start_level: first level
    :param distribution_mode: easy, hard, and for some games extreme, memory or exploration
    :param seed: determines which levels are played in which order; random if None
    :param num_threads: threads that step the environments, 0 for the calling thread
    :param render_mode: None, or ``"rgb_array"`` for images of 512x512 pixels, drawn on request. ``"human"`` has the
        same effect, because SB3 shows these images in a window
    :param options: options of Procgen: ``use_backgrounds``, ``center_agent``, ``use_monochrome_assets``,
        ``restrict_themes``, ``use_generated_assets``, ``use_sequential_levels``, ``paint_vel_info``, ``debug_mode``,
        ``resource_root``
    :raises ValueError: if an argument is out of range or the game does not have the mode
    :raises ImportError: if Procgen is not installed
    """

    def __init__(
        self,
        num_envs: int,
        env_name: str,
        num_levels: int = 0,
        start_level: int = 0,
        distribution_mode: str = "hard",
        seed: int | None = None,
        num_threads: int = 4,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs} must be at least 1.")
        if num_threads < 0:
            raise ValueError(
                f"num_threads={num_threads} must not be negative: 0 steps the environments in the calling thread."
            )
        if render_mode not in (None, "human", "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r} is unknown: use 'rgb_array', 'human' or None.")
        self.options = ProcgenOptions(env_name, num_levels, start_level, distribution_mode, **options)
        import_procgen()  # fail now, not at the first reset()
        self.num_threads = num_threads
        self.render_mode = "rgb_array" if render_mode else None
        self._engine: Any = None
        self._painter = Painter(self.options, num_envs)
        observation_space = spaces.Box(0, 255, OBSERVATION_SHAPE, np.uint8)
        super().__init__(num_envs, observation_space, spaces.Discrete(N_ACTIONS))
        self.metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 15}  # type: ignore[dict-item]
        self.seed(seed)

    @property
    def env_id(self) -> str:
        """Gymnasium id of single environments of this game and mode."""
        return f"procgen-{self.options.env_name}-{self.options.distribution_mode}-v0"

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Further arguments of these single environments: levels and rendering."""
        chosen_by_id = ("env_name", "distribution_mode")
        return {name: value for name, value in vars(self.options).items() if name not in chosen_by_id}

    def reset(self) -> VecEnvObs:
        if self._seeds[0] is not None:
            self.close()
            self._engine = self.options.engine(self.num_envs, self._seeds[0], self.num_threads)
            self._reset_seeds()
        elif self._engine is None:
            raise RuntimeError("The environments are closed: call seed() before reset() to restart them.")
        else:
            self._engine.act(np.full(self.num_envs, -1, dtype=np.int32))  # -1 ends the episode
        self._reset_options()
        _, observations, _ = self._engine.observe()
        self.reset_infos = self._infos(np.zeros(self.num_envs, dtype=bool))
        pictures: NDArray[Any] = observations["rgb"]
        return pictures

    def step_async(self, actions: NDArray[Any]) -> None:
        if self._engine is None:
            raise RuntimeError("The environments have not started yet or are closed: call reset() before step().")
        self._engine.act(np.asarray(actions, dtype=np.int32))

    def step_wait(self) -> VecEnvStepReturn:
        rewards, observations, dones = self._engine.observe()
        return observations["rgb"], rewards, dones, self._infos(dones)

    def _infos(self, dones: NDArray[Any]) -> list[dict[str, Any]]:
        return [
            {
                "level_seed": int(info["level_seed"]),
                "prev_level_seed": int(info["prev_level_seed"]),
                "is_success": bool(done and info["prev_level_complete"]),
            }
            for info, done in zip(self._engine.get_info(), dones, strict=True)
        ]

    def get_state(self) -> list[bytes]:
        """
        :return: complete state of each environment, including its rendering options; empty before the first ``reset()``
            and after ``close()``
        :raises ValueError: with generated assets, which the engine cannot save
        """
        self.options.check_savable()
        states: list[bytes] = [] if self._engine is None else self._engine.get_state()
        return states

    def set_state(self, states: list[bytes]) -> None:
        """
        Restore states.

        :param states: from :meth:`get_state` of environments with the same options, also in another process. An empty
            list changes nothing
        """
        if not states:
            return
        if self._engine is None:
            self._engine = self.options.engine(self.num_envs, 0, self.num_threads)
        self._engine.set_state(states)
        self._reset_seeds()

    def get_images(self) -> list[NDArray[Any] | None]:
        if self.render_mode is None or self._engine is None:
            return [None] * self.num_envs
        return list(self._painter.draw(self._engine))

    def close(self) -> None:
        self._painter.close()
        if self._engine is not None:
            self._engine.close()
            self._engine = None
