"""Environments with levels: vectorised ``VecEnv`` classes, and Gymnasium ids for single environments.

Importing this package registers the ids (``procgen-<game>-<mode>-v0``, ``TexturedGrid-v0``). Procgen is imported
when the first of its environments is made.
"""

from sb3_mdpo.utils.gym_notice import silence_gym_notice

silence_gym_notice()

from sb3_mdpo.envs.grid import TexturedGridVecEnv  # noqa: E402
from sb3_mdpo.envs.native import UNSEEN_LEVELS, has_levels, make_levels, native_vec_env  # noqa: E402
from sb3_mdpo.envs.procgen_vec import ProcgenVecEnv  # noqa: E402
from sb3_mdpo.envs.registration import register_procgen, register_textured_grid  # noqa: E402
from sb3_mdpo.envs.vec_normalize import MutualVecNormalize  # noqa: E402

register_procgen()
register_textured_grid()

__all__ = [
    "UNSEEN_LEVELS",
    "MutualVecNormalize",
    "ProcgenVecEnv",
    "TexturedGridVecEnv",
    "has_levels",
    "make_levels",
    "native_vec_env",
    "register_procgen",
    "register_textured_grid",
]
