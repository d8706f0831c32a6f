"""Measures of features as pure functions of arrays. The networks compute in float32, these in float64."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

# Rounding of the networks: what varies by less than this, compared with the largest feature, does not vary
PRECISION = float(np.finfo(np.float32).eps)


def is_constant(features: NDArray[Any]) -> bool:
    """Whether all ``N`` observations have the same features ``(N, F)``, up to rounding in float32."""
    largest = np.abs(features).max()
    return bool(np.ptp(features, axis=0).max() <= PRECISION * largest)


def distance_ratio(features: NDArray[Any]) -> float:
    """
    Mean Euclidean distance between features of the same observation under two perturbations, divided by the mean
    distance between features of different observations under two perturbations. 0: features do not depend on the
    perturbation. 1: they do not depend on the observation. The scale of the features does not matter.

    :param features: features of ``N`` observations under ``D`` perturbations each, shape ``(N, D, F)``
    :return: the ratio, from 0 to 2 (by the triangle inequality); NaN for fewer than two observations or three
        perturbations, or if all features are the same (a collapsed encoder, not a robust one)
    """
    n_observations, n_perturbations, dim = features.shape
    if n_observations < 2 or n_perturbations < 3 or is_constant(features.reshape(-1, dim)):
        return float("nan")
    versions = features.astype(np.float64)
    within = math.fsum(pdist(own).sum() for own in versions) / (n_observations * math.comb(n_perturbations, 2))
    between = 0.0
    for i, own in enumerate(versions[:-1]):  # all observations at once would need (N D)^2 numbers
        distances = cdist(own, versions[i + 1 :].reshape(-1, dim)).reshape(n_perturbations, -1, n_perturbations)
        between += distances.sum() - np.trace(distances, axis1=0, axis2=2).sum()
    between /= math.comb(n_observations, 2) * n_perturbations * (n_perturbations - 1)
    return float(within / between)


def linear_cka(x: NDArray[Any], y: NDArray[Any]) -> float:
    r"""
    Linear centred kernel alignment (Kornblith et al. 2019, `arXiv 1905.00414 <https://arxiv.org/abs/1905.00414>`_) of
    two encoders, without bias from a finite number of observations (Nguyen et al. 2021, `arXiv 2010.15327
    <https://arxiv.org/abs/2010.15327>`_):

    .. math:: \frac{\mathrm{HSIC}_1(K, L)}{\sqrt{\mathrm{HSIC}_1(K, K) \, \mathrm{HSIC}_1(L, L)}}

    with :math:`K = X X^\top` and :math:`L = Y Y^\top` for features ``(N, F)`` and ``(N, G)`` of the same observations,
    and the unbiased estimator of Song et al. 2012 (Feature selection via dependence maximization, JMLR 13, equation 5).

    :return: 1 for features that are equal up to rotation, reflection, shift and scale. About 0, and possibly negative,
        for independent ones. NaN for fewer than four observations, and if the features do not vary
    """
    if len(x) != len(y):
        raise ValueError(
            f"Features of {len(x)} and of {len(y)} observations: use the same observations for both encoders."
        )
    if len(x) < 4 or is_constant(x) or is_constant(y):
        return float("nan")
    of_x, of_y = _centred_similarities(x), _centred_similarities(y)
    norms = np.linalg.norm(of_x) * np.linalg.norm(of_y)
    return float(np.clip((of_x * of_y).sum() / norms, -1, 1)) if norms > 0 else float("nan")  # up to rounding


def _centred_similarities(features: NDArray[Any]) -> NDArray[np.float64]:
    """
    Inner products of different observations, centred such that the mean product of two of these matrices is
    ``HSIC_1`` up to a factor (Szekely & Rizzo 2014, Partial distance correlation, section 3); 0 on the diagonal.
    """
    standard = _standard(features)
    products = standard @ standard.T
    np.fill_diagonal(products, 0)
    n, sums = len(products), products.sum(axis=0)
    centred: NDArray[np.float64] = products - (sums + sums[:, None]) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    centred[np.abs(centred) <= 1e-12 * n * np.abs(products).max()] = 0
    return centred


def effective_rank(features: NDArray[Any]) -> float:
    r"""
    Number of directions that features ``(N, F)`` use: the exponential of the entropy of the normalized singular values
    (Roy & Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007), of centered features.
    From 1, if all lie on a line, to ``min(N - 1, F)``, if all directions vary alike; 0 if all observations have the
    same features; NaN for fewer than two observations.
    """
    if len(features) < 2:
        return float("nan")
    if is_constant(features):
        return 0.0
    singular = np.linalg.svd(_standard(features), compute_uv=False)
    shares = singular[singular > 0] / singular.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def _standard(features: NDArray[Any]) -> NDArray[np.float64]:
    """Centred, and scaled to values up to 1, so that the powers in CKA neither overflow nor vanish."""
    centred = features - features.mean(axis=0, dtype=np.float64)
    standard: NDArray[np.float64] = centred / np.abs(centred).max()
    return standard
