"""Programs that the tests of data-parallel training start with torchrun."""

import os
import signal
import sys
import threading
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.common.ranks import Ranks
from sb3_mdpo.distributed import launch, process_group
from sb3_mdpo.mdpo import mdpo
from tests.support.helpers import TINY, parameters, silent_logger
from tests.support.studies import wait_until

SIZE, N_ENVS, ROLLOUTS = 2, 12, 2  # of all processes together
SETTINGS: dict[str, Any] = TINY | {"batch_size": 32, "n_epochs": 3, "seed": 5, "learning_rate": 0.01}
CASES: dict[str, dict[str, Any]] = {
    "two policies": {"clip_range_vf": 0.2, "ent_coef": 0.01},
    "target_kl": {"target_kl": 0.001},
    "three policies, random peers": {"n_policies": 3, "distill_mode": "random", "chunk_size": 5},
    "one policy, uneven minibatches": {"n_policies": 1, "batch_size": 20},
}
TENSORS = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")


def make_model(name: str, env: VecEnv) -> MDPO:
    model = MDPO("MlpPolicy", VecNormalize(env), **SETTINGS | CASES[name])
    model.set_logger(silent_logger())
    return model


class Recorder(VecEnvWrapper):
    """Remembers what the environments said."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.resets: list[Any] = []
        self.steps: list[Any] = []

    def reset(self) -> Any:
        self.resets.append(self.venv.reset())
        return self.resets[-1].copy()

    def step_wait(self) -> Any:
        self.steps.append(self.venv.step_wait())
        return deepcopy(self.steps[-1])


def train_and_record(model: MDPO, train: Any, updates: list[SimpleNamespace]) -> None:
    """What went into an update, and what came out."""
    update = SimpleNamespace(before=parameters(model.policy))
    update.buffer = {name: getattr(model.rollout_buffer, name).clone() for name in TENSORS}
    train()
    update.after, update.logged = parameters(model.policy), dict(model.logger.name_to_value)
    updates.append(update)


def equivalence(ranks: Ranks, folder: Path) -> None:
    """Everything about two rollouts and updates of every case, for a single process to do the same."""
    record: dict[str, Any] = {"permutations": [], "peers": []}

    def recorded(key: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            record[key].append(function(*args))
            return record[key][-1]

        return call

    np.random.permutation = recorded("permutations", np.random.permutation)
    mdpo.draw_peers = recorded("peers", mdpo.draw_peers)
    for name in CASES:
        updates: list[SimpleNamespace] = []
        record |= {"permutations": [], "peers": [], "updates": updates}
        recorder = Recorder(make_vec_env("CartPole-v1", n_envs=ranks.share(N_ENVS, "n_envs")))
        model = make_model(name, recorder)
        model.train = partial(train_and_record, model, model.train, updates)  # type: ignore[method-assign]
        model.learn(ROLLOUTS * model.n_steps * N_ENVS, log_interval=None)
        normalize = model.get_vec_normalize_env()
        record |= {"resets": recorder.resets, "steps": recorder.steps}
        record |= {name: vars(getattr(normalize, name).copy()) for name in ("obs_rms", "ret_rms")}
        record |= {name: getattr(model, name) for name in ("num_timesteps", "trained_samples")}
        record["episodes"] = [[episode["r"] for episode in episodes] for episodes in model.member_ep_info_buffers]
        th.save(record, folder / f"{name} {ranks.rank}.pt")
        model.save(folder / f"{name} {ranks.rank}.zip")


class OnEveryRank(BaseCallback):
    """Does something at a step of one process."""

    every_rank = True

    def __init__(self, rank: int, at_step: int) -> None:
        super().__init__()
        self.rank, self.at_step = rank, at_step

    def _on_step(self) -> bool:
        if self.model.ranks.rank == self.rank and self.num_timesteps == self.at_step:
            self.act()
        return True


class Hang(OnEveryRank):
    def act(self) -> None:
        print("hanging", flush=True)
        threading.Event().wait()  # for nothing


class Poison(OnEveryRank):
    def act(self) -> None:
        with th.no_grad():
            next(self.model.policy.members[1].parameters()).fill_(th.nan)


def disturbed(callback: type[OnEveryRank], ranks: Ranks, folder: Path) -> None:
    env = make_vec_env("CartPole-v1", n_envs=ranks.share(4, "n_envs"))
    MDPO("MlpPolicy", env, **SETTINGS).learn(100_000, [callback(rank=1, at_step=160)])


class Steps(BaseCallback):
    """Not for every process; ends the training."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def _on_step(self) -> bool:
        self.seen.append(self.num_timesteps)
        return self.num_timesteps < 200


def stopped(ranks: Ranks, folder: Path) -> None:
    callback, env = Steps(), make_vec_env("CartPole-v1", n_envs=ranks.share(4, "n_envs"))
    model = MDPO("MlpPolicy", env, verbose=1, **SETTINGS).learn(1000, [callback])
    th.save((model.num_timesteps, callback.seen, np.random.random()), folder / f"stopped {ranks.rank}.pt")
    env.reset()
    ranks.gather(ranks.rank)


def late(ranks: Ranks, folder: Path) -> None:
    """Rank 1 is killed the first time."""
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.gather(None)
    print(f"all {ranks.gather(ranks.rank)} are here", flush=True)


def in_order(ranks: Ranks, folder: Path) -> None:
    stopped(ranks, folder)
    equivalence(ranks, folder)


def come_late(rank: int, folder: Path) -> None:
    """After the restart, rank 1 joins when rank 0 has looked for it once, and found the dead one."""
    looked = folder / "looked"
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "1":
        if rank == 1:
            wait_until(looked.exists)
        else:
            launch.time = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: looked.touch())


def start_together(rank: int, folder: Path) -> None:
    """Importing takes a while, and the timeout is short."""
    (folder / f"ready {rank}").touch()
    wait_until(lambda: len(list(folder.glob("ready *"))) == SIZE)


BEFORE = {"late": come_late, "hang": start_together}
PROGRAMS = {"in_order": in_order, "hang": partial(disturbed, Hang), "poison": partial(disturbed, Poison), "late": late}

if __name__ == "__main__":
    th.set_num_threads(1)
    name, where = sys.argv[1], Path(sys.argv[2])
    if name in BEFORE:
        BEFORE[name](int(os.environ["RANK"]), where)
    with process_group(timeout=float(sys.argv[3])) as all_ranks:
        PROGRAMS[name](all_ranks, where)
