"""Writing a policy for use without this package, and checking the file's outputs against the model's."""

import logging
import warnings
from collections.abc import Callable
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecNormalize

from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.persistence.deploy.graph import DeployedPolicy
from sb3_mdpo.utils.atomic import replacing
from sb3_mdpo.utils.optional_dependencies import need

Answer: TypeAlias = Callable[[NDArray[Any]], list[NDArray[Any]]]
INPUT = "observation"
N_CHECKED = 64
TOLERANCE = 1e-4  # other libraries sum in another order


def _onnx_bytes(policy: DeployedPolicy, example: th.Tensor) -> bytes:
    """The policy as an ONNX file. The batch size of the example must be at least 2."""
    need("export", onnx="onnx", onnxscript="onnxscript", onnxruntime="onnxruntime")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about the exporter's own code
        program = th.onnx.export(
            policy,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=policy.outputs,
            dynamic_shapes=({0: th.export.Dim("batch")},),
        )
    assert program is not None  # only without dynamo
    content: bytes = program.model_proto.SerializeToString()
    return content


def _open_onnx(path: Path) -> Answer:
    """A function from observations to the outputs of an ONNX file."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda observations: session.run(None, {INPUT: observations})  # type: ignore[no-any-return]


def _torchscript_bytes(policy: DeployedPolicy, example: th.Tensor) -> bytes:
    """The policy as a TorchScript file."""
    file = BytesIO()
    with th.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch prefers a newer format that C++ cannot load
        traced = th.jit.freeze(th.jit.trace(policy, example))  # type: ignore[no-untyped-call] # weights as constants
        th.jit.save(traced, file)  # type: ignore[no-untyped-call]
    return file.getvalue()


def _open_torchscript(path: Path) -> Answer:
    """A function from observations to the outputs of a TorchScript file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loaded = th.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

    def answer(observations: NDArray[Any]) -> list[NDArray[Any]]:
        with th.no_grad():
            return [output.numpy() for output in loaded(th.as_tensor(observations))]

    return answer


FORMATS = {"onnx": (_onnx_bytes, _open_onnx), "torchscript": (_torchscript_bytes, _open_torchscript)}


def deploy_policy(
    model: MutualOnPolicyAlgorithm, path: str | Path, format: str, vec_normalize: VecNormalize | None = None
) -> None:
    """
    Write the policy that ``predict()`` uses as one file. The file is kept only if its outputs equal the model's.

    :param model: model on the CPU in float32, whose ``predict_with`` selects a member or the ensemble
    :param path: file to write
    :param format: ``"onnx"`` or ``"torchscript"``
    :param vec_normalize: normalization of the training environments, which becomes part of the file
    :raises ValueError: if the format cannot hold the policy, or the file's outputs differ from the model's
    :raises ImportError: if a package is missing
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r} is unknown: use one of {', '.join(map(repr, FORMATS))}.")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file.")
    policy = DeployedPolicy(model, vec_normalize).eval()
    space = deepcopy(model.observation_space if vec_normalize is None else vec_normalize.venv.observation_space)
    space.seed(0)
    observations = np.stack([np.asarray(space.sample()) for _ in range(N_CHECKED)])
    to_bytes, open_file = FORMATS[format]
    with replacing(path) as file:
        file.write(to_bytes(policy, th.as_tensor(observations[:2])))
        file.flush()
        answer = open_file(Path(file.name))
        for batch in (observations, observations[:1]):
            _check_outputs(policy, answer(batch), model, batch, vec_normalize)


def _check_outputs(
    policy: DeployedPolicy,
    outputs: list[NDArray[Any]],
    model: MutualOnPolicyAlgorithm,
    observations: NDArray[Any],
    vec_normalize: VecNormalize | None,
) -> None:
    found = dict(zip(policy.outputs, outputs, strict=True))
    normalized = observations if vec_normalize is None else vec_normalize.normalize_obs(observations)
    actions, _ = model.predict(normalized, deterministic=True)  # type: ignore[arg-type]
    tensors, _ = model.policy.obs_to_tensor(normalized)  # type: ignore[arg-type]
    with th.no_grad():
        values = th.stack([member.predict_values(tensors) for member in policy.members]).mean(0).flatten().numpy()
    decided = np.ones(len(actions), dtype=bool)
    if "probabilities" in found:  # rounding decides between equally probable actions
        decided = _margins(found["probabilities"], policy.sizes) > TOLERANCE
    for name, expected in (("action", actions), ("value", values)):
        same = found[name].shape == expected.shape and np.allclose(
            found[name][decided], expected[decided], rtol=TOLERANCE, atol=TOLERANCE
        )
        if not same:
            raise ValueError(
                f"The {name} of the file differs from predict(): nothing was written. A custom policy class or "
                "features extractor can be the reason, if it does more than its layers: use --format safetensors."
            )


def _margins(probabilities: NDArray[Any], sizes: list[int]) -> NDArray[Any]:
    """How much more probable the most probable action is than the next one, shape ``(B,)``."""
    if not sizes:  # MultiBinary
        return np.asarray(np.abs(probabilities - 0.5).min(1))
    gaps = []
    for part in np.split(probabilities, np.cumsum(sizes)[:-1], axis=1):
        ordered = np.sort(part, axis=1)
        gaps.append(ordered[:, -1] - ordered[:, -2] if part.shape[1] > 1 else np.ones(len(part)))
    return np.asarray(np.min(gaps, axis=0))
