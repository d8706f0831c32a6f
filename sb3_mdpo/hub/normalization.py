"""Statistics of ``VecNormalize`` and ``MutualVecNormalize`` as JSON and back: the zoo's file is a pickle."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from pydantic import BaseModel, Field, FiniteFloat, ValidationError
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from sb3_mdpo.envs.vec_normalize import MutualVecNormalize
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.persistence.export.format import MOST_CONFIG_BYTES
from sb3_mdpo.persistence.export.spaces import decode_space, encode_space
from sb3_mdpo.zoo.run import CONFIG

_ATTRIBUTES = ["training", "norm_obs", "norm_reward", "norm_obs_keys", "clip_obs", "clip_reward", "gamma", "epsilon"]

NORMALIZATION = "vec_normalize.json"
NonNegative = Annotated[FiniteFloat, Field(ge=0)]


class _Moments(BaseModel, strict=True, extra="forbid"):
    """A ``RunningMeanStd``, its arrays as flat lists."""

    mean: Annotated[list[FiniteFloat], Field(min_length=1)]
    var: list[NonNegative]
    count: Annotated[FiniteFloat, Field(gt=0)]

    @classmethod
    def of(cls, rms: RunningMeanStd) -> "_Moments":
        mean, var = (np.asarray(values, dtype=np.float64).ravel().tolist() for values in (rms.mean, rms.var))
        return cls(mean=mean, var=var, count=float(rms.count))

    def copy_to(self, rms: RunningMeanStd) -> None:
        shape = rms.mean.shape
        rms.mean, rms.var = (np.array(values, dtype=np.float64).reshape(shape) for values in (self.mean, self.var))
        rms.count = self.count


class _Document(BaseModel, strict=True, extra="forbid"):
    format_version: Literal[1]
    observation_space: dict[str, Any]  # of the wrapped environment
    action_space: dict[str, Any]
    observations: dict[str, _Moments]
    returns: _Moments  # of each policy if there are several entries, else of all environments together
    training: bool
    norm_obs: bool
    norm_reward: bool
    norm_obs_keys: list[str] | None
    clip_obs: NonNegative
    clip_reward: NonNegative
    gamma: FiniteFloat
    epsilon: NonNegative


def statistics_to_json(normalize: VecNormalize) -> str:
    """Statistics and settings as JSON with every number exactly; the spaces are those of the wrapped environment."""
    if type(normalize) not in (VecNormalize, MutualVecNormalize):
        raise ValueError(
            f"The statistics are of {type(normalize).__name__}: only those of VecNormalize and MutualVecNormalize can "
            "be shared."
        )
    try:
        document = _Document(
            format_version=1,
            observation_space=encode_space(normalize.observation_space, "observation_space"),
            action_space=encode_space(normalize.action_space, "action_space"),
            observations={key: _Moments.of(rms) for key, rms in _parts(normalize).items()},
            returns=_Moments.of(normalize.ret_rms),
            **{name: getattr(normalize, name) for name in _ATTRIBUTES},
        )
    except ValidationError as error:
        raise ValueError(f"These statistics of VecNormalize cannot be shared: {_problem(error)}") from error
    return document.model_dump_json(indent=1) + "\n"


def statistics_from_json(path: Path) -> VecNormalize:
    """
    Statistics from a file with the output of :func:`statistics_to_json`, as ``VecNormalize.load`` has them before it
    gets an environment. A ``ValueError`` if the file is anything else.
    """
    if not path.is_file():
        raise ValueError(f"Observations or rewards are normalized, but {path.name} is missing.")
    try:
        if path.stat().st_size > MOST_CONFIG_BYTES:
            raise ValueError(f"it has more than {MOST_CONFIG_BYTES} bytes")
        return _build(_Document.model_validate(json.loads(path.read_bytes())))
    except (LookupError, RecursionError, ValueError) as error:
        problem = _problem(error) if isinstance(error, ValidationError) else error
        raise ValueError(f"{path.name} is not as sb3-mdpo push writes statistics of VecNormalize: {problem}") from error


def _build(document: _Document) -> VecNormalize:
    env: gym.Env[Any, Any] = gym.Env()  # never stepped, and not part of any file
    env.observation_space, env.action_space = map(decode_space, (document.observation_space, document.action_space))
    n_policies = len(document.returns.mean)
    make = VecNormalize if n_policies == 1 else partial(MutualVecNormalize, n_policies=n_policies)
    normalize = make(
        DummyVecEnv([lambda: env]), norm_obs=bool(document.observations), norm_obs_keys=document.norm_obs_keys
    )
    parts = _parts(normalize)
    if set(document.observations) != set(parts) or (document.norm_obs and not parts):
        raise ValueError("its observations are not those that are normalized")
    for key, rms in parts.items():
        document.observations[key].copy_to(rms)
    document.returns.copy_to(normalize.ret_rms)
    if any(np.any(rms.var + document.epsilon == 0) for rms in (*parts.values(), normalize.ret_rms)):
        raise ValueError("a variance and epsilon are 0, and their sum is divided by")
    for name in _ATTRIBUTES:
        setattr(normalize, name, getattr(document, name))
    return normalize


def check_observations(model: MDPO, statistics: VecNormalize | None, n_stack: int) -> None:
    """
    A ``ValueError`` if the model does not act on observations that are first normalized with the statistics, then
    stacked ``n_stack`` times, as ``rl_zoo3 enjoy`` does.
    """
    size = _elements(model.observation_space)
    if size % n_stack or (statistics is not None and size != n_stack * _elements(statistics.observation_space)):
        found = "" if statistics is None else f" of {statistics.observation_space}, as in {NORMALIZATION},"
        raise ValueError(
            f"{CONFIG}: a stack of {n_stack} observation(s){found} is not what the model acts on: {size} numbers."
        )
    if statistics is not None:
        try:
            stacked = VecFrameStack(statistics, n_stack) if n_stack > 1 else statistics
        except (IndexError, TypeError) as error:
            problem = f"observations of {statistics.observation_space} cannot be stacked ({error})"
            raise ValueError(f"{NORMALIZATION}: {problem}.") from error
        space = model._wrap_env(stacked, verbose=0).observation_space
        if space != model.observation_space:
            raise ValueError(f"{NORMALIZATION} is of {space}, but the model acts on {model.observation_space}.")


def _elements(space: spaces.Space[Any]) -> int:
    """How many numbers an observation has."""
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return sum(math.prod(part.shape or ()) for part in parts)


def _parts(normalize: VecNormalize) -> dict[str, RunningMeanStd]:
    """Statistics of a dictionary's parts, or of all observations; none if observations were never normalized."""
    rms: Any = vars(normalize).get("obs_rms")
    return {} if rms is None else rms if isinstance(rms, dict) else {"": rms}


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
