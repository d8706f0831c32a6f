"""Wall time of calls and of the parts of a training, the device's work included."""

import time
from collections.abc import Callable

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm


def now() -> float:
    """:return: seconds, once the device has done what it was given"""
    if th.cuda.is_available():
        th.cuda.synchronize()
    return time.perf_counter()


def seconds_of(function: Callable[[], object], at_least: float = 0.0) -> float:
    """:return: seconds per call, over as many calls as take ``at_least`` seconds"""
    calls, start = 0, now()
    while calls == 0 or now() - start < at_least:
        function()
        calls += 1
    return (now() - start) / calls


class _RolloutEnd(BaseCallback):
    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.seconds = now()


def iteration_seconds(model: OnPolicyAlgorithm) -> tuple[float, float]:
    """:return: of one rollout and one update"""
    callback, start = _RolloutEnd(), now()
    model.learn(model.n_steps * model.n_envs, callback=callback, log_interval=None)
    return callback.seconds - start, now() - callback.seconds
