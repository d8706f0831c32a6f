"""Procgen brings old Gym along, which tells its users at every import to leave it: ours cannot."""

from __future__ import annotations

from importlib.util import find_spec

TYPE_CHECKING = False  # as in the start-up hook, which may import this
if TYPE_CHECKING:
    from types import ModuleType


def clear(notices: ModuleType) -> None:
    """
    :param notices: the module ``gym_notices.notices``, which old Gym asks for something to print
    """
    notices.notices.clear()


def silence_gym_notice() -> None:
    """Keep old Gym, which SB3 and Procgen import, from printing its notice; call it before they do."""
    if find_spec("gym_notices") is not None:
        from gym_notices import notices

        clear(notices)
