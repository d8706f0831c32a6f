"""Writing an export."""

from hashlib import sha256
from pathlib import Path

import safetensors.torch

from sb3_mdpo._version import __version__
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.persistence.export.document import CONFIG, TENSORS, to_bytes
from sb3_mdpo.persistence.export.folder import replacing_folder
from sb3_mdpo.persistence.export.settings import check_settings, settings_of
from sb3_mdpo.persistence.export.space_json import encode_space
from sb3_mdpo.persistence.export.tensors import optimizer_tensors, weights_of
from sb3_mdpo.persistence.export.values import encode
from sb3_mdpo.utils.atomic import replacing

# Increased when older versions of this package could no longer read the exports that newer ones write
EXPORT_VERSION = 1


def write_export(model: MutualOnPolicyAlgorithm, path: str | Path, include_optimizer: bool = False) -> None:
    """
    :param model: the model
    :param path: see :meth:`sb3_mdpo.MDPO.export`
    :param include_optimizer: see there
    :raises ValueError: where the model has something that an export cannot hold, or something else is at the path
    """
    tensors = weights_of(model.policy) | (optimizer_tensors(model.policy.optimizer) if include_optimizer else {})
    data = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    settings = settings_of(model)
    encoded = {name: encode(value, name) for name, value in settings.items()}
    check_settings(settings)
    content = {
        "format": "sb3-mdpo export",
        "format_version": EXPORT_VERSION,
        "version": __version__,
        "algorithm": type(model).__name__,
        "observation_space": encode_space(model.observation_space, "observation_space"),
        "action_space": encode_space(model.action_space, "action_space"),
        "settings": encoded,
        "includes_optimizer": include_optimizer,
        "tensors_sha256": sha256(data).hexdigest(),
    }
    config = to_bytes(content)
    with replacing_folder(Path(path)) as folder:
        for name, part in ((TENSORS, data), (CONFIG, config)):
            with replacing(folder / name) as file:
                file.write(part)
