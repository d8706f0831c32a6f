"""The start-up hook that makes ``rl_zoo3 train --algo mdpo`` work after ``pip install``.

rl-zoo3 has no plugin mechanism: its algorithms are a dict in a module. A line in ``sb3_mdpo.pth`` (from Python 3.15 on
``sb3_mdpo.start``, PEP 829) calls :func:`install_on_startup` whenever Python starts. It inserts a finder into
``sys.meta_path`` that patches four modules of the zoo after their import. Until the zoo is imported, nothing
else happens. ``SB3_MDPO_NO_ZOO_HOOK=1`` switches the hook off.

This module uses only the standard library, and as little of it as possible, because it delays every start of Python.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing would be the most expensive import here
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# Module -> function of sb3_mdpo.zoo.register that is called with the module after its import
PATCHES = {
    "rl_zoo3.utils": "extend_utils",
    "rl_zoo3.hyperparams_opt": "register_search",
    "rl_zoo3.exp_manager": "extend_experiments",
    "rl_zoo3.train": "extend_train",
}


class PatchingFinder:
    """Meta-path finder that patches modules found by the finders after it."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname == "rl_zoo3":
            # Procgen depends on old Gym, which prints a notice when the zoo imports it
            from sb3_mdpo.utils.gym_notice import silence_gym_notice

            silence_gym_notice()
        if fullname not in PATCHES:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _patch(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _patch(module: ModuleType) -> None:
    from sb3_mdpo.zoo import register

    getattr(register, PATCHES[module.__name__])(module)


def install() -> None:
    """Patch the modules that are already imported now, and the others at their import."""
    for name in PATCHES:
        if name in sys.modules:
            _patch(sys.modules[name])
    if not any(isinstance(finder, PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PatchingFinder())  # type: ignore[arg-type]


def install_on_startup() -> None:
    """Entry point of the start-up files; does nothing if ``SB3_MDPO_NO_ZOO_HOOK`` is set and not empty."""
    if not os.environ.get("SB3_MDPO_NO_ZOO_HOOK"):
        install()
