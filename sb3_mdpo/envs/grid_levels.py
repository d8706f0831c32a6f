"""Levels of the textured grid: looks and layouts as functions of their seeds, vectorised."""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GRID_SIZE = 8
PIXELS_PER_CELL = 2
TEXTURE_SIZE = 4
MIN_DISTANCE = 4
MAX_CONTRAST = 8
IMAGE_SHAPE = (GRID_SIZE * PIXELS_PER_CELL, GRID_SIZE * PIXELS_PER_CELL, 3)
AGENT_COLOUR, GOAL_COLOUR = 255, 0
PICTURE_SCALE = 16
# Increment and multipliers of splitmix64 (Steele et al. 2014, doi 10.1145/2714064.2660195)
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

_CELLS = list(product(range(GRID_SIZE), repeat=2))
# All layouts: (start, goal), each (row, column); shape (number of layouts, 2, 2)
LAYOUTS = np.array(
    [
        (start, goal)
        for start, goal in product(_CELLS, repeat=2)
        if abs(start[0] - goal[0]) + abs(start[1] - goal[1]) >= MIN_DISTANCE
    ]
)


class Levels(NamedTuple):
    """
    :param scenes: images with background and goal but without the agent, shape ``(n, 16, 16, 3)``
    :param starts: start cells of the agent as (row, column), shape ``(n, 2)``
    :param goals: cells of the goals, shape ``(n, 2)``
    """

    scenes: NDArray[np.uint8]
    starts: NDArray[np.int64]
    goals: NDArray[np.int64]


def random_word(keys: NDArray[np.uint64], counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """
    Random 64-bit numbers as a function of key and counter: output ``counter + 1`` of splitmix64 seeded with the key.
    """
    words: NDArray[np.uint64] = keys + (counters + np.uint64(1)) * _INCREMENT
    words = (words ^ (words >> np.uint64(30))) * _MULTIPLIERS[0]
    words = (words ^ (words >> np.uint64(27))) * _MULTIPLIERS[1]
    return words ^ (words >> np.uint64(31))


def random_below(words: NDArray[np.uint64], limit: int) -> NDArray[np.int64]:
    """Map random 64-bit numbers to integers from 0 to ``limit - 1``; the limit is at most 2**31."""
    return (((words >> np.uint64(33)) * np.uint64(limit)) >> np.uint64(31)).astype(np.int64)


def levels_of(
    look_seeds: NDArray[np.int64], layout_seeds: NDArray[np.int64] | None = None, contrast: int = 1
) -> Levels:
    """
    Make levels from their seeds. The background colour is from 64 to 191 in each channel, and the texture changes it by
    up to 32 times the contrast, clipped to 1 to 254: with a contrast of 1 it differs from the white agent and the black
    goal by at least 32.

    :param look_seeds: seeds of the levels' looks, shape ``(n,)``
    :param layout_seeds: seeds of their layouts, shape ``(n,)``, None for those of the looks
    :param contrast: of the textures
    :return: the levels, each a function of its two seeds and the contrast only
    """
    layout_words = _words(look_seeds if layout_seeds is None else layout_seeds, 0, 1)[:, 0]
    layouts = LAYOUTS[random_below(layout_words, len(LAYOUTS))]
    # Little endian, so that levels do not depend on the machine
    bytes_ = np.ascontiguousarray(_words(look_seeds, 1, 8), dtype="<u8").view(np.uint8)
    colours = 64 + bytes_[:, None, None, :3].astype(np.int64) // 2
    textures = bytes_[:, 3 : 3 + TEXTURE_SIZE * TEXTURE_SIZE * 3].reshape(-1, TEXTURE_SIZE, TEXTURE_SIZE, 3) // 4
    tiles = np.clip(colours + contrast * (textures.astype(np.int64) - 32), 1, 254).astype(np.uint8)
    scenes = np.tile(tiles, (1, IMAGE_SHAPE[0] // TEXTURE_SIZE, IMAGE_SHAPE[1] // TEXTURE_SIZE, 1))
    starts, goals = layouts[:, 0], layouts[:, 1]
    _paint(scenes, goals, GOAL_COLOUR)
    return Levels(scenes, starts, goals)


def _words(seeds: NDArray[np.int64], first: int, end: int) -> NDArray[np.uint64]:
    """These words of the streams of the seeds, which are hashed twice so that neighbouring streams do not overlap."""
    keys = random_word(seeds.astype(np.uint64), np.zeros(1, np.uint64))
    return random_word(keys[:, None], np.arange(first, end, dtype=np.uint64))


def with_agents(scenes: NDArray[np.uint8], agents: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Copies of the scenes with the agents drawn at their cells (row, column). An agent on the goal hides it."""
    images = scenes.copy()
    _paint(images, agents, AGENT_COLOUR)
    return images


def enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An observation enlarged for rendering, shape ``(256, 256, 3)``."""
    return image.repeat(PICTURE_SCALE, axis=0).repeat(PICTURE_SCALE, axis=1)


def _paint(images: NDArray[np.uint8], cells: NDArray[np.int64], colour: int) -> None:
    n = len(images)
    by_cell = images.reshape(n, GRID_SIZE, PIXELS_PER_CELL, GRID_SIZE, PIXELS_PER_CELL, 3)
    by_cell[np.arange(n), cells[:, 0], :, cells[:, 1]] = colour
