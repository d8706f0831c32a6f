"""Gymnasium ids for Procgen and for the textured grid."""

import gymnasium as gym

from sb3_mdpo.envs.procgen_options import GAMES, GAMES_OF_MODE

PROCGEN_ENTRY_POINT = "sb3_mdpo.envs.procgen_single:make_procgen"
GRID_ENTRY_POINT = "sb3_mdpo.envs.grid_single:TexturedGridEnv"


def register_procgen() -> None:
    """
    Register ``procgen-<game>-<mode>-v0`` for all games and their modes, and ``procgen-<game>-v0`` for hard. The default
    is all levels; pass ``num_levels`` and ``start_level`` for a training set. A second call has no effect.
    """
    for mode, games in GAMES_OF_MODE.items():
        for game in games:
            _register(f"procgen-{game}-{mode}-v0", game, mode)
    for game in GAMES:
        _register(f"procgen-{game}-v0", game, "hard")


def _register(env_id: str, game: str, mode: str) -> None:
    if env_id not in gym.registry:
        gym.register(env_id, entry_point=PROCGEN_ENTRY_POINT, kwargs={"env_name": game, "distribution_mode": mode})


def register_textured_grid() -> None:
    """
    Register ``TexturedGrid-v0``. The default is all levels; pass ``num_levels`` and ``start_level`` for a training set,
    and ``num_layouts`` to draw layouts independently of looks. The time limit is part of the environment. A second call
    has no effect.
    """
    if "TexturedGrid-v0" not in gym.registry:
        gym.register("TexturedGrid-v0", entry_point=GRID_ENTRY_POINT)
