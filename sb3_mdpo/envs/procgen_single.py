"""Procgen as a single Gymnasium environment, with shimmy's compatibility layer for old Gym."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sb3_mdpo.envs.pictures import Painter
from sb3_mdpo.envs.procgen_options import SEED_RANGE, ProcgenOptions, import_procgen

import_procgen()  # its error message says how to install it; gym3 and old Gym are its dependencies

from gym3.interop import ToGymEnv  # noqa: E402
from shimmy.openai_gym_compatibility import GymV21CompatibilityV0  # noqa: E402


class OldGymProcgen(ToGymEnv):  # type: ignore[misc]
    """
    gym3's adapter to old Gym, plus early resets, seeds, rendering and close.

    :param options: game, levels and rendering
    """

    def __init__(self, options: ProcgenOptions) -> None:
        self.options = options
        self.painter = Painter(options, 1)
        super().__init__(self._start(int(np.random.SeedSequence().generate_state(1)[0])))
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def _start(self, seed: int) -> Any:
        import gym3

        self.engine = self.options.engine(num=1, seed=seed, num_threads=0)
        return gym3.ExtractDictObWrapper(self.engine, key="rgb")

    def seed(self, seed: int) -> None:
        """Restart the engine, which takes its seed only on creation."""
        self.close()
        self.env = self._start(seed)

    def reset(self) -> NDArray[Any]:
        _, observation, first = self.env.observe()
        if not first[0]:
            self.env.act(np.array([-1]))  # ends the episode
            _, observation, _ = self.env.observe()
        picture: NDArray[Any] = observation[0]
        return picture

    def step(self, action: int) -> tuple[NDArray[Any], float, bool, dict[str, Any]]:
        observation, reward, done, engine_info = super().step(action)
        info = {
            "level_seed": int(engine_info["level_seed"]),
            "prev_level_seed": int(engine_info["prev_level_seed"]),
            "is_success": bool(done and engine_info["prev_level_complete"]),
        }
        return observation, float(reward), bool(done), info

    def render(self, mode: str = "rgb_array") -> NDArray[Any]:
        return self.painter.draw(self.engine)[0]

    def close(self) -> None:
        self.painter.close()
        self.engine.close()


class ProcgenGymEnv(GymV21CompatibilityV0):  # type: ignore[misc]
    """
    A single Procgen environment. ``reset(seed=...)`` restarts the sequence of levels.

    :param render_mode: None or ``"rgb_array"`` for images of 512x512 pixels, drawn on request
    :param options: arguments of ``ProcgenOptions``
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(env=OldGymProcgen(ProcgenOptions(**options)), render_mode=render_mode)

    def __getattr__(self, item: str) -> Any:
        # shimmy exposes the attributes of the old environment; Gymnasium warns about seed()
        if item == "seed":
            raise AttributeError(item)
        return super().__getattr__(item)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        gym.Env.reset(self, seed=seed)  # shimmy does not seed Gymnasium's generator
        observation, info = super().reset(seed=None if seed is None else seed % SEED_RANGE, options=options or None)
        return observation, info

    def get_state(self) -> list[bytes]:
        """
        :return: complete state of the environment
        :raises ValueError: with generated assets, which the engine cannot save
        """
        self.gym_env.options.check_savable()
        states: list[bytes] = self.gym_env.engine.get_state()
        return states

    def set_state(self, states: list[bytes]) -> None:
        """
        Restore a state.

        :param states: from :meth:`get_state` of an environment with the same options, also in another process
        """
        self.gym_env.engine.set_state(states)

    def step(self, action: int) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        # shimmy would render at every step
        observation, reward, done, info = self.gym_env.step(action)
        return observation, reward, done, False, info


def make_procgen(render_mode: str | None = None, **options: Any) -> gym.Env[NDArray[Any], np.int64]:
    """
    Entry point of the Gymnasium ids.

    :param render_mode: None or ``"rgb_array"``. ``"human"`` has the same effect, because SB3 shows the images in a
        window
    :param options: arguments of ``ProcgenOptions``
    :return: the environment
    :raises ImportError: if Procgen is not installed
    """
    return ProcgenGymEnv(render_mode="rgb_array" if render_mode else None, **options)
