"""Procgen brings old Gym along, which tells its users at every import to leave it: ours cannot."""

from importlib.util import find_spec


def silence_gym_notice() -> None:
    """Keep old Gym, which SB3 and Procgen import, from printing its notice; call it before they do."""
    if find_spec("gym_notices") is not None:
        from gym_notices import notices

        notices.notices.clear()
