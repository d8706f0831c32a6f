"""On-policy algorithms of Stable-Baselines3, sb3-contrib or one's own, by the name that the zoo has for them."""

import inspect
from argparse import ArgumentTypeError
from typing import Any

from rl_zoo3.utils import ALGOS, get_class_by_name
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_mdpo.zoo.own import OWN


def algorithm_class(name: str) -> type[OnPolicyAlgorithm]:
    """
    :param name: the zoo's name, e.g. ``ppo``, or the dotted name of a class, e.g. ``stable_baselines3.PPO``
    :return: the class
    :raises ValueError: if there is no such class, or it is not an on-policy algorithm
    """
    found: Any = (ALGOS | OWN).get(name)  # the zoo has another class for masks
    if found is None:
        try:
            found = get_class_by_name(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"there is no class {name} ({error}): write module.Class, and put the module's folder on PYTHONPATH if "
                "it is not installed"
            ) from error
    if not (isinstance(found, type) and issubclass(found, OnPolicyAlgorithm)):
        raise ValueError(f"{name} is not a subclass of SB3's OnPolicyAlgorithm, like stable_baselines3.PPO")
    return found


def zoo_name(name: str) -> str:
    """The zoo's name of an algorithm with this dotted name; the dotted name itself if the zoo does not have it."""
    algorithm = algorithm_class(name)
    return next((known for known, one in (ALGOS | OWN).items() if one is algorithm), name)


def registered(name: str) -> str:
    """The value of ``--algo``: a class with a dotted name is made known to the zoo under this name."""
    if "." in name:
        try:
            ALGOS[name] = algorithm_class(name)
        except ValueError as error:
            raise ArgumentTypeError(f"{error}.") from error
    return name


def parameters_of(algorithm: type) -> dict[str, inspect.Parameter]:
    """The arguments of an algorithm by name, with those that it passes on to its base class as ``**kwargs``."""
    found: dict[str, inspect.Parameter] = {}
    for cls in algorithm.__mro__:
        if "__init__" in vars(cls):
            own = inspect.signature(vars(cls)["__init__"]).parameters
            found = {**own, **found}
            if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in own.values()):
                break
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {name: parameter for name, parameter in found.items() if parameter.kind not in variadic}
