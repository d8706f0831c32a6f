"""Join and leave the process group of torchrun."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import torch as th
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from sb3_mdpo.common.ranks import ALONE, Ranks, enter, leave
from sb3_mdpo.distributed.group import LostRankError, TorchRanks, waiting_for

TIMEOUT = "SB3_MDPO_TIMEOUT"
SECONDS = 1800.0
POLL = 0.01  # seconds


@contextmanager
def process_group(timeout: float | None = None) -> Iterator[Ranks]:
    """
    Train on all processes that torchrun has started. Every process collects and learns from its share of the samples::

        with process_group() as ranks:
            env = make_vec_env("CartPole-v1", n_envs=ranks.share(8, "n_envs"))
            model = MDPO("MlpPolicy", env, seed=0)
            model.learn(100_000)
            if ranks.is_first:
                model.save("mdpo_cartpole")

    Without torchrun, or with a single process, training is as usual. If another process dies or does not answer in
    time, this one ends with a line on stderr and exit code 1, and torchrun ends the others.

    :param timeout: how long to wait for another process, in seconds, evaluations included; by default the environment
        variable ``SB3_MDPO_TIMEOUT``, or half an hour
    :return: context manager with the processes
    :raises ValueError: if the timeout is not a positive number
    """
    seconds = _seconds(timeout)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    try:
        ranks = _join(seconds, size)
        enter(ranks)
        try:
            yield ranks
        finally:
            leave()
            dist.destroy_process_group()
    except LostRankError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)


def _join(seconds: float, size: int) -> Ranks:
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = th.cuda.is_available() and dist.is_nccl_available()
    if has_gpu and local_rank < th.cuda.device_count():
        th.cuda.set_device(local_rank)  # the meaning of "cuda" and "auto" from now on
    timeout = timedelta(seconds=seconds)
    with waiting_for("the start", int(os.environ.get("RANK", "0")), size):
        store, rank, size = next(rendezvous("env://", timeout=timeout))
        store.set_timeout(timeout)
        store = attempt_store(store, rank, size, seconds)
        backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    return TorchRanks(rank, size, local_rank)


def _seconds(timeout: float | None) -> float:
    given = os.environ.get(TIMEOUT, SECONDS) if timeout is None else timeout
    name = TIMEOUT if timeout is None else "timeout"
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{name}={given!r} must be a positive number of seconds.")
    return seconds


def attempt_store(store: Store, rank: int, size: int, timeout: float) -> Store:
    """
    A part of torchrun's store that no earlier attempt has written to.

    torchrun keeps one store for all attempts of a job, so restarted processes could find the addresses of dead ones. No
    variable that torchrun sets is the same in all processes and new in every attempt (it counts restarts on each
    machine separately). So the first process names the attempt, and each of the others asks for this name under a name
    that no earlier process had.
    """
    name = uuid4().hex
    if rank:
        store.set(f"here/{rank}", name)
        attempt = store.get(f"attempt of/{name}").decode()  # waits
        store.set(f"joined/{attempt}/{rank}", "")
        return PrefixStore(attempt, store)
    deadline = time.monotonic() + timeout
    missing = set(range(1, size))
    while missing:
        for other in sorted(missing):
            if store.check([f"joined/{name}/{other}"]):
                missing.remove(other)
            elif store.check([f"here/{other}"]):  # perhaps of a dead process
                store.set(f"attempt of/{store.get(f'here/{other}').decode()}", name)
        if missing and time.monotonic() > deadline:
            raise RuntimeError(f"ranks {', '.join(map(str, sorted(missing)))} did not start")
        time.sleep(POLL)
    return PrefixStore(name, store)
