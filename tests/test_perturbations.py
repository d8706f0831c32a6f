"""Perturbations of images by hand, and other renderings of the states of real Procgen."""

import colorsys
import math

import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sb3_mdpo.perturbations import (
    brightness,
    contrast,
    convolve,
    hue,
    image_perturbations,
    random_convolution,
    random_filters,
    saturation,
)
from sb3_mdpo.perturbations.images import STRENGTHS

channel = st.floats(0, 1, width=32)
pixels = st.tuples(channel, channel, channel)


def seeded(seed: int = 0) -> th.Generator:
    return th.Generator().manual_seed(seed)


def image(*columns: tuple[float, float, float]) -> th.Tensor:
    """One RGB image, a single row of pixels."""
    return th.tensor(columns).T[None, :, None]


def noise(batch: int = 2, channels: int = 3) -> th.Tensor:
    return th.rand(batch, channels, 5, 7, generator=seeded(9))


def test_brightness_by_hand():
    th.testing.assert_close(brightness(image((0.2, 0.4, 0.8)), 1.5), image((0.3, 0.6, 1.0)))


def test_contrast_by_hand():
    """The mean luminance of red and black is 0.2989 / 2 = 0.14945."""
    changed = contrast(image((1.0, 0.0, 0.0), (0.0, 0.0, 0.0)), 0.5)
    low, red = 0.5 * 0.14945, 0.5 + 0.5 * 0.14945
    th.testing.assert_close(changed, image((red, low, low), (low, low, low)))


def test_contrast_is_of_each_image_alone():
    images = th.cat([image((0.0, 0.0, 0.0)), image((1.0, 1.0, 1.0))])
    th.testing.assert_close(contrast(images, 0.0), images, atol=2e-4, rtol=0)  # the weights add up to 0.9999


def test_saturation_by_hand():
    """Luminance 0.2989 * 0.5 + 0.587 * 0.2 + 0.114 * 0.1 = 0.27825."""
    pixel, gray = (0.5, 0.2, 0.1), 0.27825
    th.testing.assert_close(saturation(image(pixel), 0.0), image((gray, gray, gray)))
    expected = tuple(min(max(2 * value - gray, 0), 1) for value in pixel)
    th.testing.assert_close(saturation(image(pixel), 2.0), image(expected))


def test_hue_by_hand():
    """A third of a turn leads from red to green; half of one from red to cyan; grey stays grey."""
    red, green, gray = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.3, 0.3, 0.3)
    th.testing.assert_close(hue(image(red, gray), 1 / 3), image(green, gray))
    th.testing.assert_close(hue(image(red), 0.5), image((0.0, 1.0, 1.0)))


@given(st.lists(pixels, min_size=1, max_size=8), st.floats(-0.5, 0.5))
@settings(max_examples=100, deadline=None)
def test_hue_is_that_of_colorsys(row, shift):
    def shifted(pixel) -> tuple[float, float, float]:
        hue_of, saturation_of, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((hue_of + shift) % 1, saturation_of, value)

    th.testing.assert_close(hue(image(*row), shift), image(*map(shifted, row)), atol=1e-5, rtol=0)


@given(st.lists(pixels, min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_neutral_strengths_change_nothing_and_all_strengths_give_images(row):
    images = image(*row)
    for function, neutral in ((brightness, 1), (contrast, 1), (saturation, 1), (hue, 0)):
        th.testing.assert_close(function(images, neutral), images, atol=1e-6, rtol=0)
    for perturbation in image_perturbations(1, 3, seeded())[1:]:
        changed = perturbation(images)
        assert changed.min() >= 0
        assert changed.max() <= 1 + 1e-6


def test_random_convolution_is_a_convolution_with_xavier_weights_and_without_bias():
    images, generator = noise(), seeded()
    layers = []
    for _ in range(4):
        layer = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        nn.init.xavier_normal_(layer.weight, generator=generator)
        layers.append(layer)
    changed = random_convolution(images, 4, seeded())
    assert changed.shape == (4, 2, 3, 5, 7)
    th.testing.assert_close(changed, th.stack([layer(images) for layer in layers]).detach())
    assert changed.min() < 0  # not clipped


def test_random_filters_have_xavier_variance():
    """Fan in and out are 27 each, so the standard deviation is sqrt(2 / 54)."""
    filters = random_filters(500, 3, seeded())
    assert filters.mean().item() == pytest.approx(0, abs=3e-3)
    assert filters.std().item() == pytest.approx(math.sqrt(1 / 27), rel=0.02)
    assert filters.abs().max() > 4 * math.sqrt(1 / 27)  # Gaussian, not uniform nor cut


def test_randomness_is_that_of_the_generator():
    images = noise()
    first, again, other = (random_convolution(images, 2, seeded(seed)) for seed in (0, 0, 1))
    assert th.equal(first, again)
    assert not th.equal(first, other)
    assert not th.equal(first[0], first[1])


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
    th.testing.assert_close(perturbations[0](images), convolve(images, random_filters(6, 3, seeded())))


def test_stacked_frames_are_changed_alike():
    frames = [noise(), noise().flip(0)]
    for perturbation in image_perturbations(2, 3, seeded()):
        separate = th.cat([perturbation(frame) for frame in frames], dim=2)
        th.testing.assert_close(perturbation(th.cat(frames, dim=1), frame_channels=3), separate)


def test_gray_images_have_neither_saturation_nor_hue():
    perturbations = image_perturbations(1, 1, seeded())
    assert {p.name for p in perturbations} == {"random convolution", "brightness", "contrast"}
    gray = th.tensor([[[[0.0, 1.0]]]])
    th.testing.assert_close(contrast(gray, 0.5), th.tensor([[[[0.25, 0.75]]]]))
    for perturbation in perturbations:
        assert perturbation(gray).shape == (1, 1, 1, 1, 2)


def test_what_cannot_be_perturbed_is_refused():
    with pytest.raises(ValueError, match="0 random convolutions: use at least 1"):
        image_perturbations(0, 3, seeded())
    with pytest.raises(ValueError, match="Images with 4 channels"):
        image_perturbations(1, 4, seeded())
