"""Statistics of ``VecNormalize`` as JSON and back: the zoo's file is a pickle."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_mdpo.persistence.export.spaces import decode_space, encode_space

LARGEST = 2**28  # bytes
_ATTRIBUTES = ["training", "norm_obs", "norm_reward", "norm_obs_keys", "clip_obs", "clip_reward", "gamma", "epsilon"]


class _Moments(BaseModel, strict=True, extra="forbid"):
    """A ``RunningMeanStd``, its arrays as flat lists."""

    mean: list[FiniteFloat]
    var: list[Annotated[FiniteFloat, Field(ge=0)]]
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
    returns: _Moments
    training: bool
    norm_obs: bool
    norm_reward: bool
    norm_obs_keys: list[str] | None
    clip_obs: FiniteFloat
    clip_reward: FiniteFloat
    gamma: FiniteFloat
    epsilon: FiniteFloat


def statistics_to_json(normalize: VecNormalize) -> str:
    """Statistics and settings as JSON with every number exactly."""
    if type(normalize) is not VecNormalize:
        raise ValueError(f"The statistics are of {type(normalize).__name__}: only VecNormalize itself can be shared.")
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
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        return _build(_Document.model_validate(json.loads(path.read_bytes())))
    except (AttributeError, AssertionError, LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
        # Constructors of spaces raise all of these
        problem = _problem(error) if isinstance(error, ValidationError) else error
        raise ValueError(f"{path.name} is not as sb3-mdpo push writes statistics of VecNormalize: {problem}") from error


def _build(document: _Document) -> VecNormalize:
    env: gym.Env[Any, Any] = gym.Env()  # never stepped, and not part of any file
    env.observation_space, env.action_space = map(decode_space, (document.observation_space, document.action_space))
    normalize = VecNormalize(
        DummyVecEnv([lambda: env]), norm_obs=bool(document.observations), norm_obs_keys=document.norm_obs_keys
    )
    parts = _parts(normalize)
    if set(document.observations) != set(parts) or (document.norm_obs and not parts):
        raise ValueError("its observations are not those that are normalized")
    for key, rms in parts.items():
        document.observations[key].copy_to(rms)
    document.returns.copy_to(normalize.ret_rms)
    for name in _ATTRIBUTES:
        setattr(normalize, name, getattr(document, name))
    return normalize


def _parts(normalize: VecNormalize) -> dict[str, RunningMeanStd]:
    """Statistics of a dictionary's parts, or of all observations; none if observations were never normalized."""
    rms: Any = vars(normalize).get("obs_rms")
    return {} if rms is None else rms if isinstance(rms, dict) else {"": rms}


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
