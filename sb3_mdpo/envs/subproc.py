"""Environments in other processes whose episodes this process writes down."""

import time
from collections.abc import Callable, Sequence

import gymnasium as gym
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn


class MonitoredSubprocVecEnv(SubprocVecEnv):
    """
    SB3's ``SubprocVecEnv``, which writes the episodes that ``Monitor`` counts in the other processes to one file. This
    process has the file open, so it can restore the lines of an interrupted training. SB3's ``VecMonitor`` would count
    what the wrappers above ``Monitor`` make of rewards and episodes: on Atari, clipped rewards and single lives.

    :param env_fns: functions that make environments with ``Monitor``, without a file
    :param start_method: as in ``SubprocVecEnv``
    :param monitor_dir: folder of ``monitor.csv``
    :param env_id: id of the environments, for the header of the file
    :param extra_keys: further columns, ``Monitor``'s ``reset_keywords + info_keywords``
    """

    def __init__(
        self,
        env_fns: list[Callable[[], gym.Env]],
        start_method: str | None = None,
        *,
        monitor_dir: str,
        env_id: str,
        extra_keys: Sequence[str] = (),
    ) -> None:
        super().__init__(env_fns, start_method)
        self.t_start = time.time()
        header: dict[str, float | str] = {"t_start": self.t_start, "env_id": env_id}
        self.results_writer = ResultsWriter(monitor_dir, header, tuple(extra_keys))

    def step_wait(self) -> VecEnvStepReturn:
        step = super().step_wait()
        for info in step[3]:
            if "episode" in info:
                self.results_writer.write_row(info["episode"] | {"t": round(time.time() - self.t_start, 6)})
        return step

    def close(self) -> None:
        super().close()
        self.results_writer.close()
