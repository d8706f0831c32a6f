"""Join and leave the process group of torchrun."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch as th
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from sb3_mdpo.common.ranks import ALONE, Ranks, enter, leave
from sb3_mdpo.distributed.group import LostRankError, TorchRanks, waiting_for
from sb3_mdpo.distributed.rendezvous import attempt_store

TIMEOUT = "SB3_MDPO_TIMEOUT"
SECONDS = 1800.0


def n_launched() -> int:
    """
    :return: how many processes torchrun has started on all machines, 1 without it
    """
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group(timeout: float | None = None) -> Iterator[Ranks]:
    """
    Train on all processes that torchrun has started: an ``MDPO`` that is made, loaded and trained in here has its share
    of the samples in every process::

        with process_group() as ranks:
            env = make_vec_env("CartPole-v1", n_envs=ranks.share(8, "n_envs"))
            model = MDPO("MlpPolicy", env, seed=0)
            model.learn(100_000)
            if ranks.is_first:
                model.save("mdpo_cartpole")

    Without torchrun, or with a single process, nothing is different. A process that waits in vain for another one, here
    or later, ends with a line on stderr and exit code 1, and torchrun then ends the others.

    :param timeout: how long to wait for another process, in seconds; by default the environment variable
        ``SB3_MDPO_TIMEOUT``, or half an hour. Evaluations are waited for as well
    :return: context manager with the processes
    :raises ValueError: if the timeout is no positive number
    """
    seconds = _seconds(timeout)
    if n_launched() == 1:
        yield ALONE
        return
    with _lost_ranks_end_this_one():
        ranks = _join(seconds)
        enter(ranks)
        try:
            yield ranks
        finally:
            leave()
            dist.destroy_process_group()


@contextmanager
def _lost_ranks_end_this_one() -> Iterator[None]:
    try:
        yield
    except LostRankError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)


def _join(seconds: float) -> Ranks:
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = th.cuda.is_available() and dist.is_nccl_available()
    if has_gpu and local_rank < th.cuda.device_count():
        th.cuda.set_device(local_rank)  # what "cuda" and "auto" mean from now on
    timeout = timedelta(seconds=seconds)
    with waiting_for("the start", int(os.environ.get("RANK", "0")), n_launched()):
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
