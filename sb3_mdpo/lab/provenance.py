"""What a measurement was made of, so that only measurements of the same kind are compared."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sb3_mdpo.lab.generalization.trained import TrainedModel


def model_file(trained: TrainedModel) -> Path:
    """The saved model."""
    return Path(trained.path if trained.run is None else trained.run.model_path)


def sha256_of(trained: TrainedModel) -> str | None:
    """SHA-256 of the saved model in hexadecimal digits, None if the model is not from a file."""
    path = model_file(trained)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def describe_model(trained: TrainedModel) -> dict[str, Any]:
    """The model's file, its hash and its number of environment steps, for a file of measurements."""
    return {
        "model": str(model_file(trained)),
        "model_sha256": sha256_of(trained),
        "timesteps": trained.model.num_timesteps,
    }


def is_measured(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the JSON file exists and has these settings, whatever others it has and wherever the model was."""
    try:
        recorded = json.loads(path.read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return False  # measured anew, which replaces the file
    wanted = json.loads(json.dumps(dict(settings)))
    return isinstance(recorded, dict) and all(
        key in recorded and recorded[key] == value for key, value in wanted.items() if key != "model"
    )
