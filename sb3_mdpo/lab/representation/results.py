"""Results of an analysis of features, and their files."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_mdpo.lab.representation.embedding import draw_embeddings
from sb3_mdpo.lab.representation.saliency import draw_saliency
from sb3_mdpo.utils.atomic import replacing


@dataclass(frozen=True)
class PolicyFeatures:
    """
    :param policy: name of the policy
    :param distance_ratio: see :func:`~sb3_mdpo.lab.representation.measures.distance_ratio`, under random convolutions
    :param distance_ratio_photometric: the same under changes of brightness, contrast, saturation and hue
    :param effective_rank: see :func:`~sb3_mdpo.lab.representation.measures.effective_rank`, of unperturbed observations
    :param features_dim: number of features
    """

    policy: str
    distance_ratio: float
    distance_ratio_photometric: float
    effective_rank: float
    features_dim: int


@dataclass(frozen=True)
class Alignment:
    """:func:`~sb3_mdpo.lab.representation.measures.linear_cka` of two policies on unperturbed observations."""

    a: str
    b: str
    cka: float


@dataclass(frozen=True)
class FeatureAnalysis:
    """
    :param settings: models and arguments of the analysis
    :param embeddings: t-SNE of each policy by name, shape ``(observations, versions, 2)``
    :param versions: name of the perturbation of each version, ``"none"`` for the first
    :param images: observations of the saliency maps, shape ``(N, channels, height, width)``
    :param frame_channels: channels of one frame of them
    :param saliency: of each policy by name, shape ``(N, height, width)``
    """

    settings: dict[str, Any]
    policies: list[PolicyFeatures]
    cka: list[Alignment]
    embeddings: dict[str, NDArray[np.float64]]
    versions: list[str]
    images: NDArray[np.uint8]
    frame_channels: int
    saliency: dict[str, NDArray[np.float64]]

    def as_dict(self) -> dict[str, Any]:
        """:return: the content of ``features.json``; None for undefined numbers"""
        return {
            "settings": self.settings,
            "policies": [_without_nan(asdict(row)) for row in self.policies],
            "cka": [_without_nan(asdict(row)) for row in self.cka],
            "tsne": [
                {"policy": name, "x": float(x), "y": float(y), "observation": k, "perturbation": version}
                for name, places in self.embeddings.items()
                for k, own in enumerate(places)
                for version, (x, y) in zip(self.versions, own, strict=True)
            ],
        }

    def write(self, folder: Path) -> list[Path]:
        """Write ``features.json``, ``tsne.png`` and ``saliency.png`` to a folder and return their paths."""
        files = [folder / name for name in ("features.json", "tsne.png", "saliency.png")]
        with replacing(files[0]) as file:
            file.write((json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n").encode())
        with replacing(files[1]) as file:
            draw_embeddings(file, self.embeddings)
        with replacing(files[2]) as file:
            draw_saliency(file, self.images, self.saliency, self.frame_channels)
        return files


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
