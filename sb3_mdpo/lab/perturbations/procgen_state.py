"""
The layout of the state bytes of Procgen's engine, and how to change them.

Numbers are four bytes, little-endian; texts are a length and their bytes. The order in openai/procgen 0.10.7
(``game.cpp``, ``randgen.cpp``, ``entity.cpp``, ``basic-abstract-game.cpp``) is: format version, game, options, two
random generators (a number and a text each), numbers of the last step, number of grid cells, entities, background.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from sb3_mdpo.envs.procgen_options import GAMES

SERIALIZE_VERSION = 0
# The options that decide how a state is drawn come first
OPTIONS = ("paint_vel_info", "use_generated_assets", "use_monochrome_assets", "restrict_themes", "use_backgrounds")
N_OPTIONS = 17
N_GENERATORS = 2
N_STEP_NUMBERS = 15
ENTITY_NUMBERS = 31


@dataclass(frozen=True)
class ProcgenState:
    """State of one environment: the bytes of ``get_state()``, the game, and the offset of each number in bytes."""

    data: bytes
    game: str
    places: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return _number(self.data, self.places[name])

    def with_values(self, **values: int) -> bytes:
        """The bytes with new numbers by name, e.g. ``use_backgrounds=0``."""
        data = bytearray(self.data)
        for name, value in values.items():
            struct.pack_into("<i", data, self.places[name], value)
        return bytes(data)


def read_state(data: bytes) -> ProcgenState:
    """
    Read the offsets of the drawing options and of the background's index.

    :raises ValueError: if the bytes are not a state, or not in the format of Procgen 0.10.7
    """
    try:
        state = _read(data)
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"These {len(data)} bytes are not a state of Procgen's engine: {error}.") from error
    flags = [state[name] for name in (*OPTIONS, "use_procgen_background")]
    if not (set(flags) <= {0, 1} and state["background_index"] >= 0):
        raise ValueError("This state of Procgen's engine has another layout than in version 0.10.7: use that version.")
    return state


def _read(data: bytes) -> ProcgenState:
    version, place = _number(data, 0), 4
    name, place = _text(data, place)
    if version != SERIALIZE_VERSION or name not in GAMES:
        raise ValueError(f"Not a state of Procgen 0.10.7: version {version} of the format, game {name!r}.")
    places = {option: place + 4 * i for i, option in enumerate(OPTIONS)}
    place += 4 * N_OPTIONS
    for _ in range(N_GENERATORS):
        _, place = _text(data, place + 4)
    place += 4 * (N_STEP_NUMBERS + 1)
    place += 4 + 4 * ENTITY_NUMBERS * _number(data, place)
    places |= {"use_procgen_background": place, "background_index": place + 4}
    return ProcgenState(data, name, places)


def _number(data: bytes, place: int) -> int:
    (number,) = struct.unpack_from("<i", data, place)
    return int(number)


def _text(data: bytes, place: int) -> tuple[str, int]:
    length = _number(data, place)
    (text,) = struct.unpack_from(f"<{length}s", data, place + 4)
    return text.decode("ascii"), place + 4 + length
