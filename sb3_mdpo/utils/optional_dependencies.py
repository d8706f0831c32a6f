"""Optional dependencies."""

from importlib.util import find_spec


def need(extra: str, **modules: str) -> None:
    """Raise ImportError if a module, whose package an extra of sb3-mdpo installs, is missing."""
    for module, package in modules.items():
        if find_spec(module) is None:
            raise ImportError(f"{package} is not installed: run pip install 'sb3-mdpo[{extra}]'.")
