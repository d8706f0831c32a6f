"""The processes started by torchrun."""

import random
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch as th
import torch.distributed as dist
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.ranks import Ranks
from sb3_mdpo.distributed.reductions import normalized, powers, share_statistics, variance
from sb3_mdpo.utils.terminal import one_line

T = TypeVar("T")
LARGEST_SEED = 2**30  # leaves room for the environments' numbers in the 31 bits that all engines take


class LostRankError(RuntimeError):
    """Another process has died, or did not answer in time."""


@contextmanager
def waiting_for(what: str, rank: int, size: int) -> Iterator[None]:
    """Turn the backends' errors into :class:`LostRankError`; ``what`` is what the other processes send."""
    start = time.monotonic()
    try:
        yield
    except RuntimeError as error:  # what all backends raise
        raise LostRankError(
            f"rank {rank} of {size} waited {time.monotonic() - start:.0f} s in vain for {what} of the other ranks: one "
            f"of them has died, or hangs and says nothing itself ({one_line(error)})"
        ) from error


def seed_generators(entropy: int, rank: int, size: int) -> None:
    """Seed the global generators of Python, NumPy and torch differently in every process."""
    of_python, of_numpy, of_torch = np.random.SeedSequence(entropy).spawn(size)[rank].spawn(3)
    random.seed(int.from_bytes(of_python.generate_state(4).tobytes(), "little"))
    np.random.seed(of_numpy.generate_state(4))
    th.manual_seed(int(of_torch.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def environment_seed(entropy: int, rank: int, n_envs: int) -> int:
    """
    The seed to pass to ``VecEnv.seed()``, which adds the environment's index: no two environments of all processes
    have the same seed.
    """
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] % LARGEST_SEED) + rank * n_envs


class TorchRanks(Ranks):
    """The processes of ``torch.distributed``'s default group. Gradients on GPUs travel by NCCL, all else by gloo."""

    def __init__(self, rank: int, size: int, local_rank: int) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank

    def _waiting_for(self, what: str) -> AbstractContextManager[None]:
        return waiting_for(what, self.rank, self.size)

    def share(self, total: int, what: str) -> int:
        if total % self.size:
            below, above = total // self.size * self.size, -(-total // self.size) * self.size
            nearest = f"{below} or {above}" if below else f"{above}"
            raise ValueError(
                f"{what}={total} is the number in all processes and cannot be divided among {self.size} processes: use "
                f"a multiple of {self.size}, e.g. {nearest}."
            )
        return total // self.size

    def _sum(self, tensor: th.Tensor, what: str) -> th.Tensor:
        with self._waiting_for(what):
            dist.all_reduce(tensor)
        return tensor

    def average(self, tensors: Sequence[th.Tensor]) -> None:
        if not tensors:
            return
        flat = self._sum(th.cat([tensor.flatten() for tensor in tensors]), "the gradients")
        flat /= self.size
        for tensor, mean in zip(tensors, th.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def _average_powers(self, series: th.Tensor) -> th.Tensor:
        return self._sum(powers(series), "the statistics of the minibatch") / self.size

    def normalize(self, advantages: th.Tensor) -> th.Tensor:
        return normalized(advantages, self._average_powers(advantages), self.size)

    def variance(self, series: th.Tensor) -> th.Tensor:
        return variance(self._average_powers(series)).to(series.dtype)

    def all_true(self, value: bool) -> bool:
        return not self._sum(th.tensor([not value], dtype=th.int32), "the end of an environment step").item()

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        with self._waiting_for("the messages"):
            dist.all_gather_object(values, value)
        return values

    def gather_to_first(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        with self._waiting_for("the messages"):
            dist.gather_object(value, values if self.is_first else None)
        return values if self.is_first else []

    def broadcast(self, value: T) -> T:
        values = [value]
        with self._waiting_for("the messages"):
            dist.broadcast_object_list(values)
        return values[0]

    def sync_parameters(self, module: th.nn.Module, settings: dict[str, Any]) -> None:
        for rank, others in enumerate(self.gather(settings)):
            for name, value in settings.items():
                if others[name] != value:
                    raise ValueError(
                        f"rank {self.rank} has {name}={value!r} and rank {rank} has {others[name]!r}: every process "
                        "must run the same program with the same settings."
                    )
        self._check_device(next(module.parameters()).device)
        with self._waiting_for("the parameters"):
            for tensor in module.state_dict().values():
                values = tensor.contiguous()  # required by all backends
                dist.broadcast(values, src=0)
                tensor.copy_(values)

    def _check_device(self, device: th.device) -> None:
        # A launcher may show each process only its own GPU, which is then cuda:0 in all of them
        if device.type == "cuda" and device.index not in (None, self.local_rank) and th.cuda.device_count() > 1:
            raise ValueError(
                f"device={str(device)!r} is not the GPU of local rank {self.local_rank}, and processes cannot share "
                "one: pass device='cuda' and start at most as many processes as there are GPUs, or pass device='cpu'."
            )

    def spread_seed(self, seed: int | None, env: VecEnv | None) -> None:
        if seed is None:  # torch's generators all start with the same state
            seed_generators(secrets.randbits(128), self.rank, self.size)
            return
        seed_generators(seed, self.rank, self.size)
        if env is not None:
            env.seed(environment_seed(seed, self.rank, env.num_envs))

    def share_statistics(self, env: VecEnv) -> None:
        share_statistics(env, self._average_array, self.size)

    def _average_array(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        total = self._sum(th.as_tensor(array), "the statistics of an environment step")
        mean: NDArray[np.float64] = total.numpy() / self.size
        return mean

    def peers_generator(self) -> np.random.RandomState:
        return np.random.RandomState(self.broadcast(np.random.randint(2**31)))

    def callbacks(self, callback: Any) -> Any:
        return callback if self.is_first else _on_every_rank(callback)

    def logger(self) -> Logger | None:
        return None if self.is_first else Logger(folder=None, output_formats=[])


def _on_every_rank(callback: Any) -> Any:
    """The callbacks with ``every_rank``; only the first process evaluates and writes."""
    if isinstance(callback, (list, CallbackList)):
        inside = callback if isinstance(callback, list) else callback.callbacks
        return [one for one in map(_on_every_rank, inside) if one is not None]
    return callback if isinstance(callback, BaseCallback) and getattr(callback, "every_rank", False) else None
