"""Optional dependencies."""

from importlib.util import find_spec


def need(extra: str, **modules: str) -> None:
    """
    :param extra: extra of this package that installs them
    :param modules: names of packages by module
    :raises ImportError: if one is not installed
    """
    for module, package in modules.items():
        if find_spec(module) is None:
            raise ImportError(f"{package} is not installed: run pip install 'sb3-mdpo[{extra}]'.")
