"""The settings in an export, and their types."""

from typing import Any

import numpy as np

from sb3_mdpo.common.arguments import ARGUMENTS, Kind
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm

SETTINGS: dict[str, Kind] = {name: one.kind for name, one in ARGUMENTS.items() if one.kind is not None}
FIXED = tuple(name for name, one in ARGUMENTS.items() if one.fixed)
RUNTIME_SETTINGS = tuple(name for name, one in ARGUMENTS.items() if one.runtime)


def settings_of(model: MutualOnPolicyAlgorithm) -> dict[str, Any]:
    """The settings to export."""
    settings = {name: getattr(model, name) for name in SETTINGS}
    # A search for hyperparameters sets NumPy's numbers
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}


def check_settings(settings: dict[str, Any]) -> None:
    """Raise a ``ValueError`` if a setting is missing, unknown or of the wrong type."""
    if settings.keys() != SETTINGS.keys():
        name = min(settings.keys() ^ SETTINGS.keys())
        raise ValueError(f"the setting {name!r} is {'unknown' if name in settings else 'missing'}")
    for name, kind in SETTINGS.items():
        kind.check(name, settings[name])
