"""Games, modes and options of Procgen, and the creation of its engine.

The engine ends the process at an invalid option, so all options are checked here.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

GAMES = (
    "bigfish",
    "bossfight",
    "caveflyer",
    "chaser",
    "climber",
    "coinrun",
    "dodgeball",
    "fruitbot",
    "heist",
    "jumper",
    "leaper",
    "maze",
    "miner",
    "ninja",
    "plunder",
    "starpilot",
)
# From the engine's own assertions (openai/procgen, game.cpp and env.py)
GAMES_OF_MODE = {
    "easy": GAMES,
    "hard": GAMES,
    "extreme": ("chaser", "dodgeball", "leaper", "starpilot"),
    "memory": ("caveflyer", "dodgeball", "heist", "jumper", "maze", "miner"),
    "exploration": ("caveflyer", "climber", "coinrun", "heist", "jumper", "leaper", "maze", "ninja"),
}
N_ACTIONS = 15
OBSERVATION_SHAPE = (64, 64, 3)
# Levels and seeds of Procgen have 31 bits
SEED_RANGE = 2**31


@dataclass(frozen=True)
class ProcgenOptions:
    """
    Options of a Procgen environment; see openai/procgen for details.

    :param env_name: one of the 16 games
    :param num_levels: number of levels to draw from, 0 for all 2**31
    :param start_level: first level
    :param distribution_mode: easy, hard, extreme, memory or exploration
    :param use_sequential_levels: continue with another level at the goal instead of ending the episode; its seed is
        derived from the previous one and can be outside the ``num_levels`` levels
    :param center_agent: keep the agent in the centre of the image
    :param use_backgrounds: draw backgrounds instead of black
    :param use_monochrome_assets: draw monochrome rectangles instead of the game's images
    :param restrict_themes: use a single theme if the game has several
    :param use_generated_assets: draw randomly generated images instead of the game's
    :param paint_vel_info: draw the agent's velocity into the image
    :param debug_mode: debugging switch of the engine
    :param resource_root: folder of the game's images, None for those of Procgen; only the first engine of a process
        uses it
    :raises ValueError: if an option is out of range or the game does not have the mode
    """

    env_name: str
    num_levels: int = 0
    start_level: int = 0
    distribution_mode: str = "hard"
    use_sequential_levels: bool = False
    center_agent: bool = True
    use_backgrounds: bool = True
    use_monochrome_assets: bool = False
    restrict_themes: bool = False
    use_generated_assets: bool = False
    paint_vel_info: bool = False
    debug_mode: int = 0
    resource_root: str | None = None

    def __post_init__(self) -> None:
        if self.env_name not in GAMES:
            raise ValueError(f"Procgen has no game {self.env_name!r}: use one of {', '.join(GAMES)}.")
        if self.distribution_mode not in GAMES_OF_MODE:
            raise ValueError(
                f"Procgen has no distribution_mode {self.distribution_mode!r}: use one of {', '.join(GAMES_OF_MODE)}."
            )
        games = GAMES_OF_MODE[self.distribution_mode]
        if self.env_name not in games:
            modes = [mode for mode, with_mode in GAMES_OF_MODE.items() if self.env_name in with_mode]
            raise ValueError(
                f"{self.env_name} has no distribution_mode {self.distribution_mode!r} (only for {', '.join(games)}): "
                f"use one of {', '.join(modes)}."
            )
        for name in ("num_levels", "start_level"):
            value = getattr(self, name)
            if not (isinstance(value, int) and 0 <= value < SEED_RANGE):
                raise ValueError(f"{name}={value!r} must be an integer from 0 to {SEED_RANGE - 1}.")
        if self.distribution_mode == "exploration" and (self.num_levels, self.start_level) != (0, 0):
            raise ValueError(
                "The exploration mode has one level that Procgen chooses: leave out num_levels and start_level."
            )

    def check_savable(self) -> None:
        """
        :raises ValueError: if the engine would end the process when its state is saved
        """
        if self.use_generated_assets:
            raise ValueError("Procgen cannot save states with generated assets: use use_generated_assets=False.")

    def engine(self, num: int, seed: int, num_threads: int, render: bool = False) -> Any:
        """
        Start an engine.

        :param num: number of environments
        :param seed: any integer, taken modulo 2**31
        :param num_threads: threads that step the environments, 0 for the calling thread
        :param render: whether to also draw images of 512x512 pixels at every step
        :return: ``procgen.ProcgenGym3Env``
        :raises ImportError: if Procgen is not installed
        """
        options = dict(vars(self))
        if self.distribution_mode == "exploration":
            del options["num_levels"], options["start_level"]  # Procgen asserts that they are not given
        engine_class = import_procgen().ProcgenGym3Env
        mode = "rgb_array" if render else None
        engine = engine_class(
            num=num, rand_seed=seed % SEED_RANGE, num_threads=num_threads, render_mode=mode, **options
        )
        # cffi looks up a function under a lock at its first use. If an unclosed engine is garbage collected while
        # another one is being made and holds the lock, its close() would wait forever
        _ = engine._c_lib.libenv_close
        # gym3 opens the library for every engine, and cffi never closes it: 22 kB each. Open it once
        if not hasattr(engine._ffi.dlopen, "cache_info"):
            engine._ffi.dlopen = cache(engine._ffi.dlopen)
        return engine


def import_procgen() -> Any:
    """
    :return: the module ``procgen``
    :raises ImportError: if it is not installed
    """
    from sb3_mdpo.utils.gym_notice import silence_gym_notice

    silence_gym_notice()
    try:
        import procgen
    except ModuleNotFoundError as error:
        raise ImportError(
            "Procgen is not installed: run pip install 'sb3-mdpo[procgen]'. There are wheels for "
            "Python 3.10 (procgen), 3.11 and 3.12 (procgen-mirror), and none for later versions."
        ) from error
    return procgen
