"""The start-up hook that makes ``rl_zoo3 train --algo mdpo`` work after ``pip install``.

rl-zoo3 has no plugins: its algorithms are a dict in a module. A line in ``sb3_mdpo.pth`` (for Python 3.15 and later
``sb3_mdpo.start``, PEP 829) calls :func:`install_on_startup` when Python starts. It only adds a finder to
``sys.meta_path``, which registers MDPO in three of the zoo's modules after they are imported. Set
``SB3_MDPO_NO_ZOO_HOOK=1`` to disable it.

Imports only the standard library, and little of it, as every start of Python imports this module.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing itself would be the most expensive import here
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# Module -> function of sb3_mdpo.zoo.register that is called with it once it is imported
PATCHES = {
    "rl_zoo3.utils": "extend_utils",
    "rl_zoo3.hyperparams_opt": "register_search",
    "rl_zoo3.exp_manager": "extend_experiments",
}


class PatchingFinder:
    """Meta-path finder that patches modules that the other finders find."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname == "rl_zoo3":
            # The zoo imports the old Gym that Procgen depends on, which prints a notice
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
    """Apply the patches to modules that are already imported, and to the others when they are imported."""
    for name in PATCHES:
        if name in sys.modules:
            _patch(sys.modules[name])
    if not any(isinstance(finder, PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PatchingFinder())  # type: ignore[arg-type]


def install_on_startup() -> None:
    """Entry point of the start-up files; does nothing if ``SB3_MDPO_NO_ZOO_HOOK`` is set and not empty."""
    if not os.environ.get("SB3_MDPO_NO_ZOO_HOOK"):
        install()
