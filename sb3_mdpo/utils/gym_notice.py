"""Suppress the deprecation notice of Gym, which Procgen depends on."""

from importlib.util import find_spec


def silence_gym_notice() -> None:
    """Keep Gym from printing its notice; call this before SB3 or Procgen import it."""
    if find_spec("gym_notices") is not None:
        from gym_notices import notices

        notices.notices.clear()
