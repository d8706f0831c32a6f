"""Gymnasium's specs of environments."""

from dataclasses import replace

from gymnasium.envs.registration import EnvSpec


def without_monitor(spec: EnvSpec) -> EnvSpec:
    """The spec without SB3's ``Monitor``, which Gymnasium cannot make from a spec."""
    wrappers = tuple(w for w in spec.additional_wrappers if not w.entry_point.endswith(":Monitor"))
    return replace(spec, additional_wrappers=wrappers)
