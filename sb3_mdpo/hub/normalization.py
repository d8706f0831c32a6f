"""Statistics of ``VecNormalize`` as JSON and back: the zoo's file is a pickle."""

import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_mdpo.persistence.export.spaces import decode_space, encode_space

FORMAT_VERSION = 1
LARGEST = 2**28  # bytes
_SWITCHES = ("training", "norm_obs", "norm_reward")
_NUMBERS = ("clip_obs", "clip_reward", "gamma", "epsilon")
_KEYS = {"format_version", "observation_space", "action_space", "norm_obs_keys", "observations", "returns"}


class _OnlySpaces(gym.Env[Any, Any]):
    """What ``VecNormalize`` wants to wrap while it is made. Never stepped, and in none of its files."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = action_space


def statistics_to_json(normalize: VecNormalize) -> str:
    """
    :param normalize: statistics and settings
    :return: JSON with every number as it is. The observation space is the one behind the wrapper
    :raises ValueError: where it is of another class, or a number is not finite
    """
    if type(normalize) is not VecNormalize:
        raise ValueError(f"The statistics are of {type(normalize).__name__}: only VecNormalize itself can be shared.")
    for name in _NUMBERS:
        if not math.isfinite(getattr(normalize, name)):
            raise ValueError(f"{name} is {getattr(normalize, name)}: only finite numbers can be shared.")
    rms: Any = vars(normalize).get("obs_rms")  # not there where observations were never normalised
    content = {
        "format_version": FORMAT_VERSION,
        "observation_space": encode_space(normalize.observation_space, "observation_space"),
        "action_space": encode_space(normalize.action_space, "action_space"),
        **{name: bool(getattr(normalize, name)) for name in _SWITCHES},
        **{name: float(getattr(normalize, name)) for name in _NUMBERS},
        "norm_obs_keys": normalize.norm_obs_keys,
        "observations": {key: _encode(one) for key, one in rms.items()} if isinstance(rms, dict) else _encode(rms),
        "returns": _encode(normalize.ret_rms),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def statistics_from_json(path: Path) -> VecNormalize:
    """
    :param path: file with what :func:`statistics_to_json` gave
    :return: the statistics, as ``VecNormalize.load`` knows them before it has an environment
    :raises ValueError: where the file is anything else
    """
    try:
        return _build(_read(path))
    except (AttributeError, AssertionError, LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
        # What constructors of spaces say to contents that are not as they should be
        raise ValueError(f"{path.name} is not as sb3-mdpo push writes statistics of VecNormalize: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict) or set(content) != _KEYS.union(_SWITCHES, _NUMBERS):
        raise ValueError("other keys than these files have")
    if content["format_version"] != FORMAT_VERSION:
        raise ValueError(f"its format version is not {FORMAT_VERSION}: install a newer sb3-mdpo")
    for name in _SWITCHES:
        if not isinstance(content[name], bool):
            raise ValueError(f"{name} must be true or false")
    for name in _NUMBERS:
        _numbers([content[name]], 1, name)
    return content


def _build(content: dict[str, Any]) -> VecNormalize:
    observation_space = decode_space(content["observation_space"])
    action_space = decode_space(content["action_space"])
    observations, keys = content["observations"], content["norm_obs_keys"]
    if content["norm_obs"] and observations is None:
        raise ValueError("observations are normalised, but there are no statistics of them")
    if not (keys is None or (isinstance(keys, list) and all(isinstance(key, str) for key in keys))):
        raise ValueError("norm_obs_keys must be a list of texts")
    normalize = VecNormalize(
        DummyVecEnv([lambda: _OnlySpaces(observation_space, action_space)]),
        norm_obs=observations is not None,
        norm_obs_keys=keys,
    )
    rms: Any = vars(normalize).get("obs_rms")
    if isinstance(rms, dict):
        if not isinstance(observations, dict) or set(observations) != set(rms):
            raise ValueError(f"statistics must be those of {sorted(rms)}")
        for key, one in rms.items():
            _decode(one, observations[key], key)
    elif rms is not None:
        _decode(rms, observations, "observations")
    _decode(normalize.ret_rms, content["returns"], "returns")
    for name in (*_SWITCHES, *_NUMBERS):
        setattr(normalize, name, content[name])
    return normalize


def _encode(rms: RunningMeanStd | None) -> dict[str, Any] | None:
    if rms is None:
        return None
    flat = {name: np.asarray(getattr(rms, name), dtype=np.float64).ravel().tolist() for name in ("mean", "var")}
    return {**flat, "count": float(rms.count)}


def _decode(rms: RunningMeanStd, content: Any, where: str) -> None:
    """Into statistics of the right shape, which are none yet."""
    if not isinstance(content, dict) or set(content) != {"mean", "var", "count"}:
        raise ValueError(f"{where} must have mean, var and count")
    shape = rms.mean.shape
    rms.mean, rms.var = (
        _numbers(content[name], rms.mean.size, f"{where}: {name}").reshape(shape) for name in ("mean", "var")
    )
    (rms.count,) = _numbers([content["count"]], 1, f"{where}: count").tolist()
    if (rms.var < 0).any() or rms.count <= 0:
        raise ValueError(f"{where}: variances must not be negative, counts must be positive")


def _numbers(values: Any, size: int, where: str) -> NDArray[np.float64]:
    if not isinstance(values, list) or len(values) != size:
        raise ValueError(f"{where} must be {size} number(s)")
    if not all(isinstance(value, float) and math.isfinite(value) for value in values):
        raise ValueError(f"{where} must be finite numbers with a decimal point")
    return np.array(values)
