"""Perturbations of images by hand, and other renderings of the states of real Procgen."""

import colorsys
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sb3_mdpo.envs import ProcgenVecEnv
from sb3_mdpo.envs.procgen_options import GAMES
from sb3_mdpo.lab.perturbations import images as colors
from sb3_mdpo.lab.perturbations import renderings
from sb3_mdpo.lab.perturbations.images import STRENGTHS, convolve, image_perturbations, random_filters
from sb3_mdpo.lab.perturbations.renderings import (
    BACKGROUNDS,
    RENDERINGS,
    draw_states,
    read_state,
    render,
    why_not,
    with_background,
)

BLACK_BACKGROUND, MONOCHROME = {"use_backgrounds": False}, {"use_monochrome_assets": True}

channel = st.floats(0, 1, width=32)
pixels = st.tuples(channel, channel, channel)


def seeded(seed: int = 0) -> th.Generator:
    return th.Generator().manual_seed(seed)


def image(*columns: tuple[float, float, float]) -> th.Tensor:
    """One RGB image, a single row of pixels."""
    return th.tensor(columns).T[None, :, None]


def noise(batch: int = 2, channels: int = 3) -> th.Tensor:
    return th.rand(batch, channels, 5, 7, generator=seeded(9))


RED, GREEN, BLACK = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)
PIXEL, GREY = (0.5, 0.2, 0.1), (0.3, 0.3, 0.3)
HALF_MEAN = 0.5 * 0.2989 / 2  # of the luminance of red and black
LUMINANCE = 0.2989 * 0.5 + 0.587 * 0.2 + 0.114 * 0.1  # of the pixel


@pytest.mark.parametrize(
    ("function", "strength", "row", "expected"),
    [
        (colors.brightness, 1.5, [(0.2, 0.4, 0.8)], [(0.3, 0.6, 1.0)]),
        (colors.contrast, 0.5, [RED, BLACK], [(0.5 + HALF_MEAN, HALF_MEAN, HALF_MEAN), (HALF_MEAN,) * 3]),
        (colors.saturation, 0.0, [PIXEL], [(LUMINANCE,) * 3]),
        (colors.saturation, 2.0, [PIXEL], [(1 - LUMINANCE, 0.4 - LUMINANCE, 0.0)]),
        (colors.hue, 1 / 3, [RED, GREY], [GREEN, GREY]),
    ],
)
def test_changes_of_colors_by_hand(function, strength, row, expected):
    th.testing.assert_close(function(image(*row), strength), image(*expected))


def test_contrast_is_of_each_image_alone():
    images = th.cat([image(BLACK), image((1.0, 1.0, 1.0))])
    th.testing.assert_close(colors.contrast(images, 0.0), images, atol=2e-4, rtol=0)  # the weights add up to 0.9999


@given(st.lists(pixels, min_size=1, max_size=8), st.floats(-0.5, 0.5))
@settings(max_examples=100, deadline=None)
def test_hue_is_that_of_colorsys(row, shift):
    def shifted(pixel) -> tuple[float, float, float]:
        hue_of, saturation_of, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((hue_of + shift) % 1, saturation_of, value)

    th.testing.assert_close(colors.hue(image(*row), shift), image(*map(shifted, row)), atol=1e-5, rtol=0)


@given(st.lists(pixels, min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_neutral_strengths_change_nothing_and_all_strengths_give_images(row):
    images = image(*row)
    for function, neutral in ((colors.brightness, 1), (colors.contrast, 1), (colors.saturation, 1), (colors.hue, 0)):
        th.testing.assert_close(function(images, neutral), images, atol=1e-6, rtol=0)
    for perturbation in image_perturbations(1, 3, seeded())[1:]:
        changed = perturbation(images)
        assert changed.min() >= 0
        assert changed.max() <= 1 + 1e-6


def test_random_convolution_is_a_convolution_with_xavier_weights_and_without_bias():
    images, generator = noise(), seeded()
    layers = [nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(4)]
    for layer in layers:
        nn.init.xavier_normal_(layer.weight, generator=generator)
    for layer, weights in zip(layers, random_filters(4, 3, seeded()), strict=True):
        changed = convolve(images, weights)
        th.testing.assert_close(changed, layer(images).detach())
        assert changed.min() < 0  # not clipped


def test_random_filters_have_xavier_variance_and_the_randomness_of_the_generator():
    """Fan in and out are 27 each, so the standard deviation is sqrt(2 / 54)."""
    filters, again, other = (random_filters(500, 3, seeded(seed)) for seed in (0, 0, 1))
    assert filters.mean().item() == pytest.approx(0, abs=3e-3)
    assert filters.std().item() == pytest.approx(math.sqrt(1 / 27), rel=0.02)
    assert filters.abs().max() > 4 * math.sqrt(1 / 27)  # Gaussian, not uniform nor cut
    assert th.equal(filters, again)
    assert not th.equal(filters, other)
    assert not th.equal(filters[0], filters[1])


def test_all_perturbations_have_one_signature():
    images = noise()
    perturbations = image_perturbations(6, 3, seeded())
    assert [(p.name, p.strength) for p in perturbations] == [
        ("random convolution", None),
        *((name, strength) for name, strengths in STRENGTHS.items() for strength in strengths),
    ]
    for perturbation in perturbations:
        changed = perturbation(images)
        assert changed.shape == (6 if perturbation.strength is None else 1, *images.shape)
        assert not th.equal(changed[0], images)
        assert th.equal(changed, perturbation(images))  # drawn once
    convolved = [convolve(images, weights) for weights in random_filters(6, 3, seeded())]
    th.testing.assert_close(perturbations[0](images), th.stack(convolved))


def test_stacked_frames_are_changed_alike():
    frames = [noise(), noise().flip(0)]
    for perturbation in image_perturbations(2, 3, seeded()):
        separate = th.cat([perturbation(frame) for frame in frames], dim=2)
        th.testing.assert_close(perturbation(th.cat(frames, dim=1), frame_channels=3), separate)


@pytest.mark.parametrize("batch", [2, 7])
def test_in_turn_each_image_is_changed_by_one_draw(batch):
    """Three draws: images 0, 3 and 6 by the first. Fewer images than draws are changed by the first draws."""
    images = noise(batch, 6)
    perturbation = image_perturbations(3, 3, seeded())[0]
    every = perturbation(images, 3)
    expected = th.stack([every[i % 3, i] for i in range(batch)])
    th.testing.assert_close(perturbation.in_turn(images, 3), expected)


def test_gray_images_have_neither_saturation_nor_hue_and_other_numbers_of_channels_are_refused():
    perturbations = image_perturbations(1, 1, seeded())
    assert {p.name for p in perturbations} == {"random convolution", "brightness", "contrast"}
    gray = th.tensor([[[[0.0, 1.0]]]])
    th.testing.assert_close(colors.contrast(gray, 0.5), th.tensor([[[[0.25, 0.75]]]]))
    for perturbation in perturbations:
        assert perturbation(gray).shape == (1, 1, 1, 1, 2)
    with pytest.raises(ValueError, match="0 random convolutions: use at least 1"):
        image_perturbations(0, 3, seeded())
    with pytest.raises(ValueError, match="Images with 4 channels"):
        image_perturbations(1, 4, seeded())


def started(game: str, n_envs: int = 4, **options) -> ProcgenVecEnv:
    """Some random steps into its first levels."""
    env = ProcgenVecEnv(n_envs, game, distribution_mode="hard", seed=5, num_threads=0, **options)
    env.reset()
    walk(env, 12, seed=0)
    return env


def walk(env: ProcgenVecEnv, n_steps: int, seed: int) -> list:
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(0, 15, env.num_envs)) for _ in range(n_steps)]


def edits(game: str) -> dict[str, Callable[[bytes], bytes]]:
    every = {"no background": renderings.without_background, "monochrome assets": renderings.with_monochrome_assets}
    if BACKGROUNDS[game] > 1:
        every["other background"] = lambda state: with_background(state, renderings.other_backgrounds(state)[-1])
    return every


def restored(state: bytes, original: bytes) -> bytes:
    names = ("use_backgrounds", "use_monochrome_assets", "background_index")
    return read_state(state).with_values(**{name: read_state(original)[name] for name in names})


@pytest.mark.parametrize("game", GAMES)
def test_other_renderings_differ_and_leave_the_game_as_it_is(game):
    env = started(game)
    states = env.get_state()
    original = draw_states(states)
    np.testing.assert_array_equal(original, env._engine.observe()[1]["rgb"])
    expected = walk(env, 60, seed=1)
    states_afterwards = env.get_state()
    for name, edit in edits(game).items():
        edited = [edit(state) for state in states]
        assert (draw_states(edited) != original).any(axis=(1, 2, 3)).all(), name
        env._engine.set_state(edited)
        for (_, *ours), (_, *theirs) in zip(walk(env, 60, seed=1), expected, strict=True):
            np.testing.assert_equal(ours, theirs)  # rewards, ends, levels
        back = map(restored, env.get_state(), states_afterwards)
        assert all(state == after for state, after in zip(back, states_afterwards, strict=True)), name
    env.close()


def test_edited_states_have_the_pictures_of_the_engines_own_options():
    """The same seed plays the same levels whatever is drawn."""
    usual, black, flat = (started("coinrun", **kw) for kw in ({}, BLACK_BACKGROUND, MONOCHROME))
    for own, edit in ((black, renderings.without_background), (flat, renderings.with_monochrome_assets)):
        np.testing.assert_array_equal(draw_states([edit(s) for s in usual.get_state()]), draw_states(own.get_state()))


@pytest.mark.parametrize("game", GAMES)
def test_the_number_of_backgrounds_is_the_engines(game):
    """Many levels use them all, and each can be drawn."""
    env = started(game, n_envs=64)
    used = set()
    for _ in range(12 if BACKGROUNDS[game] > 13 else 3):
        env.reset()
        used |= {read_state(state)["background_index"] for state in env.get_state()}
    assert used == set(range(BACKGROUNDS[game]))
    state = env.get_state()[0]
    assert len(draw_states([with_background(state, k) for k in range(BACKGROUNDS[game])])) == BACKGROUNDS[game]
    beyond = f"no background {BACKGROUNDS[game]}: use 0 to {BACKGROUNDS[game] - 1}"
    with pytest.raises(ValueError, match=beyond):
        with_background(state, BACKGROUNDS[game])
    env.close()


def test_draws_of_other_backgrounds_are_different_ones(monkeypatch):
    states = started("bigfish").get_state()
    images = render("other background", states, 4, seeded())
    assert (images.shape, images.dtype) == ((4, 4, 64, 64, 3), np.uint8)
    for of_one_state in images.swapaxes(0, 1):
        assert len({image.tobytes() for image in of_one_state}) == 4
    np.testing.assert_array_equal(images, render("other background", states, 4, seeded()))
    assert not np.array_equal(images, render("other background", states, 4, seeded(1)))
    assert len(render("other background", states, 100, seeded())) == BACKGROUNDS["bigfish"] - 1
    assert render("no background", states, 100, seeded()).shape == (1, 4, 64, 64, 3)
    # More states than an engine draws at once
    together = draw_states(states)
    monkeypatch.setattr(renderings, "MAX_ENGINE_SIZE", 3)
    np.testing.assert_array_equal(draw_states(states), together)


@pytest.mark.parametrize(
    ("game", "options", "rendering", "reason"),
    [
        ("chaser", {}, "other background", "chaser has a single background"),
        ("maze", BLACK_BACKGROUND, "no background", "drawn without backgrounds already"),
        ("maze", BLACK_BACKGROUND, "other background", "drawn without backgrounds already"),
        ("maze", MONOCHROME, "monochrome assets", "monochrome already"),
    ],
)
def test_renderings_that_cannot_be_had_are_refused(game, options, rendering, reason):
    states = started(game, **options).get_state()
    assert reason in why_not(rendering, states[0])
    with pytest.raises(ValueError, match=reason):
        render(rendering, states, 1, seeded())
    possible = [name for name in RENDERINGS if why_not(name, states[0]) is None]
    assert rendering not in possible
    assert possible


def test_what_is_no_state_is_refused():
    state = started("maze", 1).get_state()[0]
    with pytest.raises(ValueError, match="not a state of Procgen's engine"):
        read_state(state[:300])
    with pytest.raises(ValueError, match="version 7 of the format, game 'maze'"):
        read_state(b"\7" + state[1:])
    with pytest.raises(ValueError, match="another layout"):
        read_state(read_state(state).with_values(use_backgrounds=5))
    with pytest.raises(ValueError, match="no rendering 'upside down'"):
        why_not("upside down", state)
    with pytest.raises(ValueError, match="States of maze, miner"):
        draw_states([state, started("miner", 1).get_state()[0]])
    with pytest.raises(ValueError, match="States of no game"):
        draw_states([])


def test_states_that_the_engine_does_not_have_are_refused():
    with pytest.raises(ValueError, match="cannot save states with generated assets"):
        started("coinrun", 1, use_generated_assets=True).get_state()
    single: Any = gym.make("procgen-coinrun-easy-v0", use_generated_assets=True).unwrapped
    single.reset(seed=0)
    with pytest.raises(ValueError, match="cannot save states with generated assets"):
        single.get_state()
    assert ProcgenVecEnv(1, "coinrun").get_state() == []
