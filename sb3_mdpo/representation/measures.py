"""Measures of features as pure functions of arrays. The networks compute in float32, these in float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

# Rounding of the networks: what varies by less than this, compared with the largest feature, does not vary
PRECISION = float(np.finfo(np.float32).eps)


def is_constant(features: NDArray[Any]) -> bool:
    """
    :param features: features of ``N`` observations, shape ``(N, F)``
    :return: whether all observations have the same features, up to the rounding of float32: the encoder tells
        nothing apart
    """
    largest = np.abs(features).max()
    return bool(np.ptp(features, axis=0).max() <= PRECISION * largest)


def distance_ratio(features: NDArray[Any]) -> float:
    r"""
    How far a perturbation moves features, compared with how far apart different observations are.

    The mean Euclidean distance between two versions of the same observation, over the mean distance between
    a version of one observation and a version of another; means over all such pairs. 0: the features do not notice
    the perturbation. 1: two versions of one observation are as different as two observations, so the perturbed
    features no longer tell what was observed. It does not depend on the scale of the features.

    :param features: features of ``N`` observations in ``D`` versions each, shape ``(N, D, F)``
    :return: the ratio, not negative; NaN where it is undefined: fewer than two observations or versions, or all
        features the same (a collapsed encoder, which is no robust one)
    """
    n_observations, n_versions, _ = features.shape
    if n_observations < 2 or n_versions < 2 or is_constant(features.reshape(n_observations * n_versions, -1)):
        return float("nan")
    # One observation at a time: all pairs at once would need (N D)^2 numbers
    versions = features.astype(np.float64)
    within = np.mean([pdist(own).mean() for own in versions])
    others = [versions[i:].reshape(-1, versions.shape[-1]) for i in range(1, n_observations)]
    between = sum(cdist(own, rest).sum() for own, rest in zip(versions, others, strict=False))
    n_pairs = n_observations * (n_observations - 1) // 2 * n_versions**2
    return float(within / (between / n_pairs))


def linear_cka(x: NDArray[Any], y: NDArray[Any]) -> float:
    r"""
    Linear centred kernel alignment (Kornblith et al. 2019, `arXiv 1905.00414 <https://arxiv.org/abs/1905.00414>`_,
    section 3) of two encoders:

    .. math:: \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F \, \|Y^\top Y\|_F}

    for features with columns of mean 0. It is 1 for features that are equal up to rotation, reflection, shift and a
    common scale, and 0 for uncorrelated ones. With few observations it is biased upwards: use more of them than there
    are features.

    :param x: one encoder's features of ``N`` observations, shape ``(N, F)``
    :param y: another encoder's features of the same observations, shape ``(N, G)``
    :return: the alignment, in [0, 1]; NaN where it is undefined: fewer than two observations, or features
        that are the same for all of them
    :raises ValueError: where they are not of the same number of observations
    """
    if len(x) != len(y):
        raise ValueError(f"Features of {len(x)} and of {len(y)} observations: both encoders must see the same ones.")
    if len(x) < 2 or is_constant(x) or is_constant(y):
        return float("nan")
    x, y = _standard(x), _standard(y)
    alignment = np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    return float(min(alignment, 1.0))  # Cauchy-Schwarz, up to rounding


def effective_rank(features: NDArray[Any]) -> float:
    r"""
    Number of directions that features use: the exponential of the entropy of the normalised singular values
    (Roy & Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007), of centred features.

    :param features: features of ``N`` observations, shape ``(N, F)``
    :return: from 1, where all lie on a line, to ``min(N - 1, F)``, where all directions vary alike; 0 where all
        observations have the same features (the rank of nothing but zeros); NaN for fewer than two observations
    """
    if len(features) < 2:
        return float("nan")
    if is_constant(features):
        return 0.0
    singular = np.linalg.svd(_standard(features), compute_uv=False)
    shares = singular[singular > 0] / singular.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def _standard(features: NDArray[Any]) -> NDArray[np.float64]:
    """Centred, and scaled to values up to 1, so that the fourth powers in CKA neither overflow nor vanish."""
    centred = features - features.mean(axis=0, dtype=np.float64)
    standard: NDArray[np.float64] = centred / np.abs(centred).max()
    return standard
