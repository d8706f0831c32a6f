"""
Other renderings of the same Procgen state, the setting of the paper's theory, made by changing its bytes.

Numbers are four bytes, little-endian; texts are a length and their bytes. The order in openai/procgen 0.10.7
(``game.cpp``, ``randgen.cpp``, ``entity.cpp``, ``basic-abstract-game.cpp``) is: format version, game, options, two
random generators (a number and a text each), numbers of the last step, number of grid cells, entities, background.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray

from sb3_mdpo.envs.procgen_options import GAMES, OBSERVATION_SHAPE, ProcgenOptions

SERIALIZE_VERSION = 0
# The options that decide how a state is drawn come first
OPTIONS = ("paint_vel_info", "use_generated_assets", "use_monochrome_assets", "restrict_themes", "use_backgrounds")
N_OPTIONS = 17
N_GENERATORS = 2
N_STEP_NUMBERS = 15
ENTITY_NUMBERS = 31
# Lengths of the engine's lists (openai/procgen, resources.cpp), which ends the process at an index beyond them
TOPDOWN, PLATFORM, SPACE = 9, 62, 13
BACKGROUNDS = {
    "bigfish": 7,
    "bossfight": SPACE,
    "caveflyer": SPACE,
    "chaser": 1,
    "climber": PLATFORM,
    "coinrun": PLATFORM,
    "dodgeball": TOPDOWN,
    "fruitbot": TOPDOWN,
    "heist": TOPDOWN,
    "jumper": PLATFORM,
    "leaper": TOPDOWN,
    "maze": TOPDOWN,
    "miner": PLATFORM,
    "ninja": PLATFORM,
    "plunder": 4,
    "starpilot": SPACE,
}
MAX_ENGINE_SIZE = 64


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
    """Read the offsets of the drawing options and of the background's index, in the format of Procgen 0.10.7."""
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


def without_background(state: bytes) -> bytes:
    """The same engine state, drawn on black."""
    return read_state(state).with_values(use_backgrounds=0)


def with_monochrome_assets(state: bytes) -> bytes:
    """The same engine state, drawn with rectangles in one color per kind of object."""
    return read_state(state).with_values(use_monochrome_assets=1)


def with_background(state: bytes, index: int) -> bytes:
    """The same engine state, drawn on one of the game's backgrounds; for any other the engine would end the process."""
    parsed = read_state(state)
    if not 0 <= index < BACKGROUNDS[parsed.game]:
        raise ValueError(f"{parsed.game} has no background {index}: use 0 to {BACKGROUNDS[parsed.game] - 1}.")
    return parsed.with_values(background_index=index)


def other_backgrounds(state: bytes) -> list[int]:
    """Indices of the game's other backgrounds."""
    parsed = read_state(state)
    return [index for index in range(BACKGROUNDS[parsed.game]) if index != parsed["background_index"]]


def why_not(rendering: str, state: bytes) -> str | None:
    """Why the state cannot be rendered in another way by one of :data:`RENDERINGS`, None if it can."""
    if rendering not in RENDERINGS:
        raise ValueError(f"There is no rendering {rendering!r}: use one of {', '.join(RENDERINGS)}.")
    parsed = read_state(state)
    if rendering == MONOCHROME_ASSETS:
        return "its assets are monochrome already" if parsed["use_monochrome_assets"] else None
    if not parsed["use_backgrounds"]:
        return "it is drawn without backgrounds already"
    if rendering == OTHER_BACKGROUND and BACKGROUNDS[parsed.game] == 1:
        return f"{parsed.game} has a single background"
    return None


def render(rendering: str, states: Sequence[bytes], draws: int, generator: th.Generator) -> NDArray[Any]:
    """
    Draw ``B`` states of one game in another way, one of :data:`RENDERINGS`. Two backgrounds can look alike in the part
    that a state shows, so not every image differs from the original.

    :param draws: largest number of other backgrounds per state, drawn without replacement
    :return: images, shape ``(draws, B, 64, 64, 3)``; one draw for renderings without randomness
    """
    for state in states:
        reason = why_not(rendering, state)
        if reason is not None:
            raise ValueError(f"A state cannot be rendered with {rendering!r}: {reason}.")
    edited = RENDERINGS[rendering](states, draws, generator)
    images = draw_states([state for draw in edited for state in draw])
    return images.reshape(len(edited), len(states), *OBSERVATION_SHAPE)


def draw_states(states: Sequence[bytes]) -> NDArray[Any]:
    """Images of an engine, shape ``(B, 64, 64, 3)``, of ``B`` states of one game."""
    games = {read_state(state).game for state in states}
    if len(games) != 1:
        raise ValueError(f"States of {', '.join(sorted(games)) or 'no game'}: pass states of one game.")
    size = min(len(states), MAX_ENGINE_SIZE)
    # The states contain the options
    engine: Any = ProcgenOptions(games.pop()).engine(size, seed=0, num_threads=0)
    images = []
    for start in range(0, len(states), size):
        batch = list(states[start : start + size])
        engine.set_state(batch + [batch[-1]] * (size - len(batch)))  # one per environment of the engine
        _, observations, _ = engine.observe()
        images.append(observations["rgb"][: len(batch)].copy())
    engine.close()
    return np.concatenate(images)


def _before_other_backgrounds(states: Sequence[bytes], draws: int, generator: th.Generator) -> list[list[bytes]]:
    chosen = []
    for state in states:
        others = other_backgrounds(state)
        order = th.randperm(len(others), generator=generator).tolist()
        chosen.append([with_background(state, others[i]) for i in order[:draws]])
    return [list(draw) for draw in zip(*chosen, strict=True)]


def _once(edit: Callable[[bytes], bytes]) -> Callable[[Sequence[bytes], int, th.Generator], list[list[bytes]]]:
    return lambda states, _draws, _generator: [[edit(state) for state in states]]


NO_BACKGROUND, MONOCHROME_ASSETS, OTHER_BACKGROUND = "no background", "monochrome assets", "other background"
# Rendering -> function that makes the edited states of every draw
RENDERINGS: dict[str, Callable[[Sequence[bytes], int, th.Generator], list[list[bytes]]]] = {
    NO_BACKGROUND: _once(without_background),
    MONOCHROME_ASSETS: _once(with_monochrome_assets),
    OTHER_BACKGROUND: _before_other_backgrounds,
}
