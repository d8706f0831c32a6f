"""Writing an export."""

import json
from pathlib import Path

import numpy as np

from sb3_mdpo._version import __version__
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.persistence.export.encoding import SETTINGS, check_settings, encode
from sb3_mdpo.persistence.export.format import CONFIG, EXPORT_VERSION, FILES, TENSORS
from sb3_mdpo.persistence.export.spaces import check_parts, encode_space
from sb3_mdpo.persistence.export.weights import optimizer_tensors, weights_of, write_tensors
from sb3_mdpo.utils.atomic import replacing_folder


def write_export(model: MutualOnPolicyAlgorithm, path: str | Path, include_optimizer: bool = False) -> None:
    """See :meth:`sb3_mdpo.MDPO.export`."""
    tensors = weights_of(model.policy) | (optimizer_tensors(model.policy.optimizer) if include_optimizer else {})
    values = {name: getattr(model, name) for name in SETTINGS}
    # A search for hyperparameters sets NumPy's numbers
    settings = {name: one.item() if isinstance(one, np.generic) else one for name, one in values.items()}
    encoded = {name: encode(value, name) for name, value in settings.items()}
    check_settings(settings)
    check_parts(model.observation_space, model.n_policies)
    content = {
        "format": "sb3-mdpo export",
        "format_version": EXPORT_VERSION,
        "version": __version__,
        "algorithm": type(model).__name__,
        "observation_space": encode_space(model.observation_space, "observation_space"),
        "action_space": encode_space(model.action_space, "action_space"),
        "settings": encoded,
        "includes_optimizer": include_optimizer,
    }
    config = json.dumps(content, indent=1, allow_nan=False) + "\n"
    data = write_tensors(tensors)
    with replacing_folder(Path(path), FILES) as folder:
        (folder / TENSORS).write_bytes(data)
        (folder / CONFIG).write_text(config)
