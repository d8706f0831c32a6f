"""Other renderings of the same Procgen state, the setting of the paper's theory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray

from sb3_mdpo.envs.procgen_options import OBSERVATION_SHAPE, ProcgenOptions
from sb3_mdpo.lab.perturbations.procgen_state import read_state

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


def without_background(state: bytes) -> bytes:
    """The same engine state, drawn on black."""
    return read_state(state).with_values(use_backgrounds=0)


def with_monochrome_assets(state: bytes) -> bytes:
    """The same engine state, drawn with rectangles in one color per kind of object."""
    return read_state(state).with_values(use_monochrome_assets=1)


def with_background(state: bytes, index: int) -> bytes:
    """
    The same engine state, drawn on one of the game's backgrounds, ``0`` to ``BACKGROUNDS[game] - 1``.

    :raises ValueError: if there is no such background, for which the engine would end the process
    """
    parsed = read_state(state)
    if not 0 <= index < BACKGROUNDS[parsed.game]:
        raise ValueError(f"{parsed.game} has no background {index}: use 0 to {BACKGROUNDS[parsed.game] - 1}.")
    return parsed.with_values(background_index=index)


def other_backgrounds(state: bytes) -> list[int]:
    """Indices of the game's other backgrounds."""
    parsed = read_state(state)
    return [index for index in range(BACKGROUNDS[parsed.game]) if index != parsed["background_index"]]


def why_not(rendering: str, state: bytes) -> str | None:
    """
    :return: why the state cannot be rendered in another way by one of :data:`RENDERINGS`, None if it can
    :raises ValueError: if there is no rendering of that name
    """
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
    :param generator: source of randomness of the backgrounds, on the CPU
    :return: images, shape ``(draws, B, 64, 64, 3)``; one draw for renderings without randomness
    :raises ValueError: if a state cannot be rendered in another way by it
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
