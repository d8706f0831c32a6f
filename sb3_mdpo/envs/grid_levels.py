"""Levels of the textured grid: from their seeds to layout and picture, any number of them at once."""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GRID_SIZE = 8
PIXELS_PER_CELL = 2
TEXTURE_SIZE = 4
MIN_DISTANCE = 4
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
    :param scenes: pictures with background and goal but without the agent, shape ``(n, 16, 16, 3)``
    :param starts: the agent's first cells as (row, column), shape ``(n, 2)``
    :param goals: the goals' cells, shape ``(n, 2)``
    """

    scenes: NDArray[np.uint8]
    starts: NDArray[np.int64]
    goals: NDArray[np.int64]


def random_word(keys: NDArray[np.uint64], counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """
    A random number of 64 bits for each key and counter, without a generator's state: the number that
    splitmix64, started at the key, gives as its ``counter + 1``-th.

    :param keys: any numbers
    :param counters: numbers that are told apart, broadcast with the keys
    :return: the random numbers, always the same for the same key and counter
    """
    words: NDArray[np.uint64] = keys + (counters + np.uint64(1)) * _INCREMENT
    words = (words ^ (words >> np.uint64(30))) * _MULTIPLIERS[0]
    words = (words ^ (words >> np.uint64(27))) * _MULTIPLIERS[1]
    return words ^ (words >> np.uint64(31))


def random_below(words: NDArray[np.uint64], limit: int) -> NDArray[np.int64]:
    """
    :param words: random numbers of 64 bits
    :param limit: at most 2**31
    :return: as many random integers from 0 to ``limit - 1``
    """
    return (((words >> np.uint64(33)) * np.uint64(limit)) >> np.uint64(31)).astype(np.int64)


def levels_of(level_seeds: NDArray[np.int64]) -> Levels:
    """
    Colours of the background are a level's own, from 64 to 191, and every pixel of its texture differs from it
    by up to 32: the white agent and the black goal are at least 32 away from it in each channel.

    :param level_seeds: seeds of the levels, shape ``(n,)``
    :return: the levels, each a function of its seed alone
    """
    # Hashed twice, for the streams of neighbouring seeds must not overlap
    keys = random_word(level_seeds.astype(np.uint64), np.zeros(1, np.uint64))
    words = random_word(keys[:, None], np.arange(8, dtype=np.uint64))
    layouts = LAYOUTS[random_below(words[:, 0], len(LAYOUTS))]
    # Little endian everywhere, lest levels depend on the machine
    bytes_ = np.ascontiguousarray(words[:, 1:], dtype="<u8").view(np.uint8)
    colours = 64 + bytes_[:, None, None, :3] // 2
    textures = bytes_[:, 3 : 3 + TEXTURE_SIZE * TEXTURE_SIZE * 3].reshape(-1, TEXTURE_SIZE, TEXTURE_SIZE, 3) // 4
    scenes = np.tile(colours + textures - 32, (1, IMAGE_SHAPE[0] // TEXTURE_SIZE, IMAGE_SHAPE[1] // TEXTURE_SIZE, 1))
    starts, goals = layouts[:, 0], layouts[:, 1]
    _paint(scenes, goals, GOAL_COLOUR)
    return Levels(scenes, starts, goals)


def with_agents(scenes: NDArray[np.uint8], agents: NDArray[np.int64]) -> NDArray[np.uint8]:
    """
    :param scenes: pictures without the agent, shape ``(n, 16, 16, 3)``
    :param agents: its cells as (row, column), shape ``(n, 2)``
    :return: new pictures with it; on the goal it hides the goal
    """
    images = scenes.copy()
    _paint(images, agents, AGENT_COLOUR)
    return images


def enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """
    :param image: an observation, shape ``(16, 16, 3)``
    :return: the same for people, shape ``(256, 256, 3)``
    """
    return image.repeat(PICTURE_SCALE, axis=0).repeat(PICTURE_SCALE, axis=1)


def _paint(images: NDArray[np.uint8], cells: NDArray[np.int64], colour: int) -> None:
    n = len(images)
    by_cell = images.reshape(n, GRID_SIZE, PIXELS_PER_CELL, GRID_SIZE, PIXELS_PER_CELL, 3)
    by_cell[np.arange(n), cells[:, 0], :, cells[:, 1]] = colour
