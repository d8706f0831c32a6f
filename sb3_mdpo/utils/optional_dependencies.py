"""Packages that only some commands need."""

from importlib.util import find_spec


def need(extra: str, **modules: str) -> None:
    """
    :param extra: extra of this package that brings them
    :param modules: module -> name of the package that it is of
    :raises ImportError: if one is not installed, with what to install
    """
    for module, package in modules.items():
        if find_spec(module) is None:
            raise ImportError(f"{package} is not installed: run pip install 'sb3-mdpo[{extra}]'.")
