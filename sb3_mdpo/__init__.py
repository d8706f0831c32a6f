"""Mutual Distillation Policy Optimization (arXiv 2501.02481) for Stable-Baselines3.

The public names are imported on first use (PEP 562): the zoo's start-up hook lives in
this package and must not cost every Python process an import of torch.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would double what the start-up hook costs

__version__ = "0.1.0"

_MODULE_OF = {
    "MDPO": "sb3_mdpo.mdpo",
    "MutualPolicy": "sb3_mdpo.policies",
    "ImpalaCnnPolicy": "sb3_mdpo.policies",
    "ImpalaCNN": "sb3_mdpo.torch_layers",
    "StridedCnnPolicy": "sb3_mdpo.policies",
    "StridedCNN": "sb3_mdpo.torch_layers",
    "MutualRolloutBuffer": "sb3_mdpo.buffers",
    "NonFiniteError": "sb3_mdpo.numerics",
}

__all__ = [
    "MDPO",
    "ImpalaCNN",
    "ImpalaCnnPolicy",
    "MutualPolicy",
    "MutualRolloutBuffer",
    "NonFiniteError",
    "StridedCNN",
    "StridedCnnPolicy",
    "__version__",
]

if TYPE_CHECKING:
    from typing import Any

    from sb3_mdpo.buffers import MutualRolloutBuffer
    from sb3_mdpo.mdpo import MDPO
    from sb3_mdpo.numerics import NonFiniteError
    from sb3_mdpo.policies import ImpalaCnnPolicy, MutualPolicy, StridedCnnPolicy
    from sb3_mdpo.torch_layers import ImpalaCNN, StridedCNN


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    # Before SB3 imports old Gym
    import_module("sb3_mdpo.gym_notice").silence_gym_notice()
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
