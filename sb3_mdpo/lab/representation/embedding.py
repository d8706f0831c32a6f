"""t-SNE of features as in the paper: a few observations under many random convolutions."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any, BinaryIO

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from sb3_mdpo.lab.representation.measures import is_constant

PERPLEXITY = 30.0  # scikit-learn's


def embed(features: NDArray[Any], seed: int = 0) -> NDArray[np.float64]:
    """
    Places ``(N, 2)`` in the plane of features ``(N, F)`` of at least 4 images, with a perplexity of at most 30 and a
    third of the number of other images; all at the origin if all features are the same.
    """
    n_images, dim = features.shape
    if n_images < 4:
        raise ValueError(f"t-SNE of {n_images} images: use at least 4.")
    if is_constant(features):
        return np.zeros((n_images, 2))
    # Principal components of rescaled features: t-SNE starts from them, and their scale has no meaning
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (n_images - 1) / 3), init="pca" if dim > 1 else "random", random_state=seed, n_jobs=1
    )
    places: NDArray[np.float64] = tsne.fit_transform(features / np.abs(features).max()).astype(np.float64)
    return places


def draw_embeddings(file: BinaryIO, embeddings: Mapping[str, NDArray[Any]]) -> None:
    """
    Draw a PNG with one panel per policy, one color per observation, a star where it is unperturbed. Places have the
    shape ``(observations, versions, 2)``, the first version without perturbation.
    """
    columns = min(len(embeddings), 4)
    rows = -(-len(embeddings) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.8 * rows), layout="constrained")
    for i, (name, places) in enumerate(embeddings.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        for k, versions in enumerate(places):
            x, y = versions.T
            axes.scatter(x[1:], y[1:], s=8, color=f"C{k % 10}")
            axes.scatter(x[0], y[0], s=80, color=f"C{k % 10}", marker="*", edgecolor="black")
        axes.set(title=fill(name, 40), xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
    figure.suptitle(
        "t-SNE of features: a color per observation, a dot per random convolution, a star without perturbation"
    )
    figure.savefig(file, format="png", dpi=120)
