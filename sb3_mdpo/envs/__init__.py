"""Procgen for SB3: a native vectorised environment, and Gymnasium ids for everything else.

Importing this package registers the ids (``procgen-<game>-<mode>-v0``); Procgen itself is
imported when the first environment is made.
"""

from sb3_mdpo.gym_notice import silence_gym_notice

silence_gym_notice()

from sb3_mdpo.envs.procgen_vec import ProcgenVecEnv, native_procgen  # noqa: E402
from sb3_mdpo.envs.registration import register_procgen  # noqa: E402

register_procgen()

__all__ = ["ProcgenVecEnv", "native_procgen", "register_procgen"]
