"""Representations: the measures by hand and by their properties, real models on real Procgen, the command."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sb3_mdpo.representation.measures import distance_ratio, effective_rank, is_constant, linear_cka

NUMBERS = st.floats(-10, 10, width=32).map(lambda x: round(x, 3))
FEATURES = st.tuples(st.integers(2, 8), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=NUMBERS)
)
VERSIONS = arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(3, 5), st.integers(1, 3)), elements=NUMBERS)


def rotation(dim: int, seed: int) -> np.ndarray:
    """A random orthogonal map, rotation or reflection."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def test_distance_ratio_by_hand():
    # Within the first 2, 4, 2, within the second 0, 6, 6: mean 10/3. Between, without pairs under the same
    # perturbation: 0-10, 0-16, 2-10, 2-16, 4-10, 4-10, mean 10
    features = np.array([[[0.0], [2.0], [4.0]], [[10.0], [10.0], [16.0]]])
    assert distance_ratio(features) == pytest.approx(1 / 3)
    # In the plane: the corners of a triangle with sides 3, 4 and 5, and thrice the origin
    features = np.array([[[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    assert distance_ratio(features) == pytest.approx(((3 + 4 + 5) / 6) / ((0 + 3 + 5) / 3))


def test_distance_ratio_of_features_that_ignore_the_perturbation_or_the_observation():
    rng = np.random.default_rng(0)
    assert distance_ratio(np.repeat(rng.normal(size=(20, 1, 8)), 5, axis=1)) == 0
    assert distance_ratio(np.repeat(rng.normal(size=(1, 5, 8)), 20, axis=0)) == pytest.approx(1)
    assert distance_ratio(rng.normal(size=(40, 10, 8))) == pytest.approx(1, abs=0.02)


@given(VERSIONS, st.floats(0.01, 100), st.integers(0, 9))
def test_distance_ratio_knows_no_scale_place_or_direction(features, scale, seed):
    ratio = distance_ratio(features)
    moved = scale * features @ rotation(features.shape[-1], seed) + 1
    if is_constant(features.reshape(-1, features.shape[-1])):
        assert np.isnan(ratio)
    else:
        assert 0 <= ratio <= 2 + 1e-12  # by the triangle inequality
        assert distance_ratio(moved) == pytest.approx(ratio, rel=1e-5, abs=1e-9)


def test_linear_cka_by_hand():
    x = np.array([[1.0], [-1.0], [0.0]])
    y = np.array([[1.0, 1.0], [0.0, 0.0], [-1.0, -1.0]])
    # y'x = (1, 1), |x'x| = 2, y'y = [[2, 2], [2, 2]] with norm 4: 2 / (2 * 4)
    assert linear_cka(x, y) == pytest.approx(1 / 4)
    assert linear_cka(x + 5, y - 3) == pytest.approx(1 / 4)
    uncorrelated = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert linear_cka(uncorrelated[:, :1], uncorrelated[:, 1:]) == 0


@given(FEATURES, st.integers(1, 4), st.floats(0.01, 100), st.integers(0, 9))
def test_linear_cka_knows_no_scale_place_or_direction(x, dim, scale, seed):
    y = np.random.default_rng(seed).normal(size=(len(x), dim))
    cka = linear_cka(x, y)
    if is_constant(x):
        assert np.isnan(cka)
        return
    assert 0 <= cka <= 1
    assert linear_cka(y, x) == pytest.approx(cka)
    assert linear_cka(x, x) == pytest.approx(1)
    moved = scale * x @ rotation(x.shape[1], seed) + 1
    assert linear_cka(moved, y) == pytest.approx(cka, rel=1e-5, abs=1e-9)
    assert linear_cka(x, moved) == pytest.approx(1)


def test_effective_rank_by_hand():
    # Singular values 3 and 1 (columns are orthogonal): exp of the entropy of 3/4 and 1/4
    features = np.array([[1.5, 0.5], [1.5, -0.5], [-1.5, 0.5], [-1.5, -0.5]])
    assert effective_rank(features) == pytest.approx((4 / 3) ** (3 / 4) * 4 ** (1 / 4))
    assert effective_rank(features + 100) == pytest.approx(effective_rank(features))
    assert effective_rank(features / [3, 1]) == pytest.approx(2)
    assert effective_rank(np.outer(np.arange(5), [1, 2, 3])) == pytest.approx(1)


@given(FEATURES, st.floats(0.01, 100))
def test_effective_rank_is_between_one_and_the_dimension(features, scale):
    rank = effective_rank(features)
    if is_constant(features):
        assert rank == 0
    else:
        n_observations, dim = features.shape
        assert 1 - 1e-9 <= rank <= min(n_observations - 1, dim) * (1 + 1e-9)
        assert effective_rank(scale * features) == pytest.approx(rank)


def test_a_collapsed_encoder_is_no_convergent_one():
    """It maps everything to one line: perturbations hardly move it, twins agree, and the rank tells."""
    rng = np.random.default_rng(0)
    direction, other = rng.normal(size=(2, 64))
    states = rng.normal(size=(100, 1, 1))
    noise = 1e-3 * rng.normal(size=(100, 4, 64))
    collapsed, twin = states * direction + noise, states * other + noise
    assert distance_ratio(collapsed) < 0.01
    assert linear_cka(collapsed[:, 0], twin[:, 0]) > 0.99
    assert effective_rank(collapsed[:, 0]) < 1.1
    assert effective_rank(rng.normal(size=(100, 64))) > 40


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_constant_features(value):
    features = np.full((6, 3), value) + np.float32(1e-7) * value * np.arange(6)[:, None] / 6  # rounding
    assert is_constant(features)
    assert effective_rank(features) == 0
    assert np.isnan(distance_ratio(features.reshape(2, 3, 3)))
    assert np.isnan(linear_cka(features, np.eye(6)))
    assert np.isnan(linear_cka(np.eye(6), features))


def test_one_observation_or_two_perturbations_say_nothing():
    one = np.array([[1.0, 2.0]])
    assert np.isnan(effective_rank(one))
    assert np.isnan(linear_cka(one, one))
    assert np.isnan(distance_ratio(np.random.default_rng(0).normal(size=(1, 5, 3))))
    assert np.isnan(distance_ratio(np.random.default_rng(0).normal(size=(5, 2, 3))))


def test_cka_wants_the_same_observations():
    with pytest.raises(ValueError, match="Features of 3 and of 4 observations"):
        linear_cka(np.eye(3), np.eye(4))
