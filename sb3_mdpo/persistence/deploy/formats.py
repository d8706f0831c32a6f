"""ONNX and TorchScript: writing a policy and running its file."""

import logging
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import torch as th
from numpy.typing import NDArray

from sb3_mdpo.persistence.deploy.graph import DeployedPolicy
from sb3_mdpo.utils.optional_dependencies import need

Answer: TypeAlias = Callable[[NDArray[Any]], list[NDArray[Any]]]
INPUT = "observation"


def onnx_bytes(policy: DeployedPolicy, example: th.Tensor) -> bytes:
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


def open_onnx(path: Path) -> Answer:
    """A function from observations to the outputs of an ONNX file."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda observations: session.run(None, {INPUT: observations})  # type: ignore[no-any-return]


def torchscript_bytes(policy: DeployedPolicy, example: th.Tensor) -> bytes:
    """The policy as a TorchScript file."""
    file = BytesIO()
    with th.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch prefers a newer format that C++ cannot load
        traced = th.jit.freeze(th.jit.trace(policy, example))  # type: ignore[no-untyped-call] # weights as constants
        th.jit.save(traced, file)  # type: ignore[no-untyped-call]
    return file.getvalue()


def open_torchscript(path: Path) -> Answer:
    """A function from observations to the outputs of a TorchScript file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loaded = th.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

    def answer(observations: NDArray[Any]) -> list[NDArray[Any]]:
        with th.no_grad():
            return [output.numpy() for output in loaded(th.as_tensor(observations))]

    return answer


FORMATS = {"onnx": (onnx_bytes, open_onnx), "torchscript": (torchscript_bytes, open_torchscript)}
