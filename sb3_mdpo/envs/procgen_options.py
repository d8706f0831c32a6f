"""Which Procgen environments there are, and how an engine is asked for.

The engine ends the whole process at an option that it does not know, so everything is checked here.
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
# Procgen's levels and seeds are 31 bit numbers
SEED_RANGE = 2**31


@dataclass(frozen=True)
class ProcgenOptions:
    """
    What makes a Procgen environment; see openai/procgen for the meaning of the drawing options.

    :param env_name: one of the 16 games
    :param num_levels: number of levels to draw from, 0 for all of the 2**31
    :param start_level: first level
    :param distribution_mode: easy, hard, extreme, memory or exploration
    :param use_sequential_levels: reaching the goal leads to another level within the same episode, whose
        seed follows from the last one's and may be outside of the ``num_levels`` first ones
    :param center_agent: keep the agent in the middle of the picture
    :param use_backgrounds: draw backgrounds instead of black
    :param use_monochrome_assets: draw rectangles in one colour instead of the games' pictures
    :param restrict_themes: draw one theme only where a game has several
    :param use_generated_assets: draw randomly generated pictures instead of the games'
    :param paint_vel_info: paint the agent's velocity into the picture
    :param debug_mode: the engine's debugging switch, meaningful to its authors
    :param resource_root: folder of the games' pictures, None for those that come with Procgen; counts for
        the first engine of a process
    :raises ValueError: where an option is outside its range or the game does not have the mode
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
                f"{self.env_name} has no distribution_mode {self.distribution_mode!r} (only {', '.join(games)} have): "
                f"use one of {', '.join(modes)}."
            )
        for name in ("num_levels", "start_level"):
            value = getattr(self, name)
            if not (isinstance(value, int) and 0 <= value < SEED_RANGE):
                raise ValueError(f"{name}={value!r} must be an integer from 0 to {SEED_RANGE - 1}.")
        if self.distribution_mode == "exploration" and (self.num_levels, self.start_level) != (0, 0):
            raise ValueError(
                "The exploration mode is one level that Procgen chooses: leave out num_levels and start_level."
            )

    def check_savable(self) -> None:
        """
        :raises ValueError: where the engine would end the process when it is asked for its state
        """
        if self.use_generated_assets:
            raise ValueError("Procgen cannot save states with generated assets: use use_generated_assets=False.")

    def engine(self, num: int, seed: int, num_threads: int, render: bool = False) -> Any:
        """
        Start an engine.

        :param num: number of environments
        :param seed: any integer, taken modulo 2**31
        :param num_threads: threads that step the environments, 0 to step them in the caller's
        :param render: whether to draw pictures of 512x512 pixels for people as well, at every step
        :return: ``procgen.ProcgenGym3Env``
        :raises ImportError: where Procgen is not installed, with how to install it
        """
        options = dict(vars(self))
        if self.distribution_mode == "exploration":
            del options["num_levels"], options["start_level"]  # Procgen asserts that they are not given
        engine_class = import_procgen().ProcgenGym3Env
        mode = "rgb_array" if render else None
        engine = engine_class(
            num=num, rand_seed=seed % SEED_RANGE, num_threads=num_threads, render_mode=mode, **options
        )
        # cffi looks up a library's functions under a lock when they are first used. An engine that nobody closed may be
        # collected while another one, just being made, holds it: its close() would wait forever
        _ = engine._c_lib.libenv_close
        # gym3 opens the library anew for every engine, and cffi keeps what it has opened: 22 kB each. Once is enough
        if not hasattr(engine._ffi.dlopen, "cache_info"):
            engine._ffi.dlopen = cache(engine._ffi.dlopen)
        return engine


def import_procgen() -> Any:
    """
    :return: the module ``procgen``
    :raises ImportError: where it is not installed, with how to install it
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
