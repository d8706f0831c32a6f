"""A single Procgen environment for Gymnasium, through shimmy's compatibility layer for old Gym."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sb3_mdpo.envs.pictures import Painter
from sb3_mdpo.envs.procgen_options import SEED_RANGE, ProcgenOptions, import_procgen

import_procgen()  # says how to install it; gym3 and shimmy's old Gym come with it

from gym3.interop import ToGymEnv  # noqa: E402
from shimmy.openai_gym_compatibility import GymV21CompatibilityV0  # noqa: E402


class OldGymProcgen(ToGymEnv):  # type: ignore[misc]
    """
    gym3's adapter to old Gym, with what it leaves out: early resets, seeds, rendering and close.

    :param options: game, levels and drawing
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
        """Start anew: the engine takes its seed on creation."""
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
    Gymnasium environment with one Procgen level at a time; ``reset(seed=...)`` restarts the sequence of levels.

    :param render_mode: None or ``"rgb_array"`` for pictures of 512x512 pixels, drawn when asked for
    :param options: see :class:`~sb3_mdpo.envs.procgen_options.ProcgenOptions`
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(env=OldGymProcgen(ProcgenOptions(**options)), render_mode=render_mode)

    def __getattr__(self, item: str) -> Any:
        # shimmy passes everything through to the old environment, whose seed() Gymnasium frowns upon
        if item == "seed":
            raise AttributeError(item)
        return super().__getattr__(item)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        gym.Env.reset(self, seed=seed)  # shimmy leaves Gymnasium's own generator unseeded
        observation, info = super().reset(seed=None if seed is None else seed % SEED_RANGE, options=options or None)
        return observation, info

    def get_state(self) -> list[bytes]:
        """
        :return: everything about the environment as it is now
        :raises ValueError: with generated assets, which the engine cannot save
        """
        self.gym_env.options.check_savable()
        states: list[bytes] = self.gym_env.engine.get_state()
        return states

    def set_state(self, states: list[bytes]) -> None:
        """
        Go on from where an environment of the same options was, one of another process included.

        :param states: from :meth:`get_state`
        """
        self.gym_env.engine.set_state(states)

    def step(self, action: int) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        # shimmy would draw a picture at every step
        observation, reward, done, info = self.gym_env.step(action)
        return observation, reward, done, False, info


def make_procgen(render_mode: str | None = None, **options: Any) -> gym.Env[NDArray[Any], np.int64]:
    """
    Entry point of the Gymnasium ids.

    :param render_mode: None or ``"rgb_array"``; ``"human"`` means the same, as SB3 shows pictures by itself
    :param options: see :class:`~sb3_mdpo.envs.procgen_options.ProcgenOptions`
    :return: the environment
    :raises ImportError: where Procgen is not installed
    """
    return ProcgenGymEnv(render_mode="rgb_array" if render_mode else None, **options)
