"""A policy as one function of a batch of observations, for ONNX and TorchScript."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.common.precision import resolve_precision


class DeployedPolicy(nn.Module):
    """
    ``predict(deterministic=True)`` as a module that also returns values and probabilities.

    :param model: model whose ``predict_with`` selects a member or the ensemble
    :param vec_normalize: normalization to apply to the observations first
    :raises ValueError: if observations are dictionaries or are normalized before stacking, or if the model computes in
        bfloat16 or is compiled
    """

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
        if model.compile or resolve_precision(model.precision, model.device, model.observation_space) == "bf16":
            raise ValueError(
                "ONNX and TorchScript files compute in float32 and uncompiled: load the model with precision='fp32' "
                "and compile=False."
            )
        who = model.predict_with
        members = model.policy.members if who == "ensemble" else [model.policy.members[who]]
        self.members: Sequence[ActorCriticPolicy] = nn.ModuleList(members)  # type: ignore[assignment]
        self.action_space = model.action_space
        self.sizes: list[int] = []  # numbers of actions to choose from
        if isinstance(model.action_space, spaces.Discrete):
            self.sizes = [int(model.action_space.n)]
        elif isinstance(model.action_space, spaces.MultiDiscrete):
            self.sizes = model.action_space.nvec.tolist()
        self.squash_output = model.policy.squash_output
        self.clip_obs = 0.0 if vec_normalize is None else float(vec_normalize.clip_obs)
        for name, value in self._constants(model, vec_normalize).items():
            self.register_buffer(name, th.as_tensor(value))

    @staticmethod
    def _constants(model: MutualOnPolicyAlgorithm, vec_normalize: VecNormalize | None) -> dict[str, NDArray[Any]]:
        constants: dict[str, NDArray[Any]] = {}
        space = model.action_space
        if isinstance(space, spaces.Box):
            constants = {"low": space.low, "high": space.high}
        elif isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            constants = {"start": np.asarray(space.start, dtype=np.int64)}
        if vec_normalize is not None:
            statistics: Any = vec_normalize.obs_rms
            if statistics.mean.shape != model.observation_space.shape:
                raise ValueError(
                    "The run normalizes observations before stacking or transposing them, which a single file cannot "
                    "do: use --format safetensors and the run's vecnormalize.pkl."
                )
            constants |= {
                "mean": np.asarray(statistics.mean),
                "std": np.sqrt(statistics.var + vec_normalize.epsilon),
            }
        return constants

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of :meth:`forward`."""
        return (
            ["action", "value"] if isinstance(self.action_space, spaces.Box) else ["action", "value", "probabilities"]
        )

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
        features = member.extract_features(observation)
        if member.share_features_extractor:
            latent_pi, latent_vf = member.mlp_extractor(features)
        else:
            latent_pi = member.mlp_extractor.forward_actor(features[0])
            latent_vf = member.mlp_extractor.forward_critic(features[1])
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
