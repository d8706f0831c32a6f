"""Policies as ONNX and TorchScript files, which need neither this package nor SB3.

A file is kept only if its outputs equal those of the model's ``predict(deterministic=True)``.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from sb3_mdpo.common.mutual_policy import latents
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.common.precision import resolve_precision
from sb3_mdpo.utils.atomic import replacing
from sb3_mdpo.utils.optional_dependencies import need

Answer: TypeAlias = Callable[[NDArray[Any]], list[NDArray[Any]]]
INPUT = "observation"
N_CHECKED = 64
TOLERANCE = 1e-4  # other libraries sum in another order


class DeployedPolicy(nn.Module):
    """``predict(deterministic=True)`` of the model as a module that also returns values and probabilities."""

    low: th.Tensor
    high: th.Tensor
    start: th.Tensor
    mean: th.Tensor
    std: th.Tensor

    def __init__(self, model: MutualOnPolicyAlgorithm, vec_normalize: VecNormalize | None = None) -> None:
        super().__init__()
        if isinstance(model.observation_space, spaces.Dict):
            raise ValueError(
                "Observations that are dictionaries are not supported in ONNX and TorchScript files: use --format "
                "safetensors."
            )
        if resolve_precision(model.precision, model.device, model.observation_space) == "bf16":
            raise ValueError("ONNX and TorchScript files compute in float32: load the model with precision='fp32'.")
        for base, what in ((MaskableActorCriticPolicy, "action masks"), (RecurrentActorCriticPolicy, "LSTM states")):
            if isinstance(model.policy.members[0], base):
                raise ValueError(f"ONNX and TorchScript files take no {what}: use --format safetensors.")
        who = model.predict_with
        members = model.policy.members if who == "ensemble" else [model.policy.members[who]]
        self.members: Sequence[ActorCriticPolicy] = nn.ModuleList(members)  # type: ignore[assignment]
        self.action_space = model.action_space
        self.sizes: list[int] = []  # numbers of actions to choose from
        self.squash_output = model.policy.squash_output
        self.clip_obs = 0.0
        constants: dict[str, NDArray[Any]] = {}
        if isinstance(space := model.action_space, spaces.Box):
            constants = {"low": space.low, "high": space.high}
        elif isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            constants = {"start": np.asarray(space.start, dtype=np.int64)}
            self.sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else space.nvec.tolist()
        if vec_normalize is not None:
            self.clip_obs = float(vec_normalize.clip_obs)
            statistics: Any = vec_normalize.obs_rms
            if statistics.mean.shape != model.observation_space.shape:
                raise ValueError(
                    "The run normalizes observations before stacking or transposing them, which a single file cannot "
                    "do: use --format safetensors and the run's vecnormalize.pkl."
                )
            constants |= {"mean": statistics.mean, "std": np.sqrt(statistics.var + vec_normalize.epsilon)}
        for name, value in constants.items():
            self.register_buffer(name, th.as_tensor(value))

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of :meth:`forward`."""
        return ["action", "value"] + ([] if isinstance(self.action_space, spaces.Box) else ["probabilities"])

    def forward(self, observation: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        :param observation: observations as for ``predict()``, images channels first, shape ``(B, ...)``
        :return: deterministic actions, shape ``(B, ...)``; values, shape ``(B,)``; for discrete actions also
            probabilities, shape ``(B, n)``: of each action (Discrete), of the actions of all dimensions side by side
            (MultiDiscrete), or of each button being pressed (MultiBinary)
        """
        if self.clip_obs:
            normalized = (observation.double() - self.mean) / self.std
            observation = normalized.clamp(-self.clip_obs, self.clip_obs).float()
        outputs = [self._member(member, observation) for member in self.members]
        value = th.stack([value for _, value in outputs]).mean(0)
        answers = th.stack([answer for answer, _ in outputs]).mean(0)
        if isinstance(self.action_space, spaces.Box):
            return self._boxed(answers), value
        return self._most_probable(answers), value, answers

    def _member(self, member: ActorCriticPolicy, observation: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        latent_pi, latent_vf = latents(member, observation)
        answer: th.Tensor = member.action_net(latent_pi)
        if isinstance(self.action_space, spaces.Box):
            answer = th.tanh(answer) if self.squash_output else answer
        elif isinstance(self.action_space, spaces.MultiBinary):
            answer = th.sigmoid(answer)
        else:
            answer = th.cat([logits.softmax(1) for logits in th.split(answer, self.sizes, dim=1)], dim=1)
        return answer, member.value_net(latent_vf).flatten()

    def _boxed(self, actions: th.Tensor) -> th.Tensor:
        actions = actions.reshape(-1, *self.low.shape)
        if self.squash_output:
            return self.low + 0.5 * (actions + 1.0) * (self.high - self.low)
        return th.minimum(th.maximum(actions, self.low), self.high)

    def _most_probable(self, probabilities: th.Tensor) -> th.Tensor:
        if isinstance(self.action_space, spaces.MultiBinary):
            return probabilities.round().reshape(-1, *(self.action_space.shape or ()))
        best = [part.argmax(1) for part in th.split(probabilities, self.sizes, dim=1)]
        if isinstance(self.action_space, spaces.Discrete):
            return best[0] + self.start
        return th.stack(best, dim=1) + self.start


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
    Write the policy that ``predict()`` uses as one file.

    :param model: model on the CPU in float32, whose ``predict_with`` selects a member or the ensemble
    :param path: file to write
    :param format: ``"onnx"`` or ``"torchscript"``
    :param vec_normalize: normalization of the training environments, which becomes part of the file
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
