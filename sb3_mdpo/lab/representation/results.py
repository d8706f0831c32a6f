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
    """Measures of one policy's features, see :mod:`~sb3_mdpo.lab.representation.measures`."""

    policy: str
    model: str  #: path of its run or file, as it was given
    distance_ratio: float  #: under random convolutions
    distance_ratio_photometric: float  #: under changes of brightness, contrast, saturation and hue
    effective_rank: float  #: of unperturbed observations
    features_dim: int


@dataclass(frozen=True)
class Alignment:
    """:func:`~sb3_mdpo.lab.representation.measures.linear_cka` of two policies on unperturbed observations."""

    a: str
    b: str
    cka: float


@dataclass(frozen=True)
class FeatureAnalysis:
    """Numbers and pictures of the policies of one model or several."""

    settings: dict[str, Any]  #: models and arguments of the analysis
    policies: list[PolicyFeatures]
    cka: list[Alignment]
    embeddings: dict[str, NDArray[np.float64]]  #: t-SNE of each policy, shape ``(observations, versions, 2)``
    versions: list[str]  #: name of the perturbation of each version, ``"none"`` for the first
    images: NDArray[np.uint8]  #: observations of the saliency maps, shape ``(N, channels, height, width)``
    frame_channels: int  #: channels of one frame of them
    saliency: dict[str, NDArray[np.float64]]  #: of each policy by name, shape ``(N, height, width)``

    def as_dict(self) -> dict[str, Any]:
        """The content of ``features.json``; None for undefined numbers."""
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
