"""Public names that are imported on first use (PEP 562).

The zoo's start-up hook imports this module in every Python process, so it imports as little as possible.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would double what the start-up hook costs
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazy_attributes(package: str, module_of: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of the package, whose public names are from other modules."""

    def __getattr__(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        from sb3_mdpo.utils.gym_notice import silence_gym_notice

        silence_gym_notice()  # before SB3 imports old Gym
        return getattr(import_module(module_of[name]), name)

    return __getattr__, lambda: sorted(module_of)
