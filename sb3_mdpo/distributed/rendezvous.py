"""Where the processes of torchrun find each other.

torchrun keeps one store for all attempts of a job, so processes that were started again could find the addresses of
those that died before them. No variable that torchrun sets is the same in all processes and new in every attempt (it
counts restarts on each machine for itself). So the first process names the attempt, and every other one asks for that
name under one of its own that no earlier process had.
"""

import time
from uuid import uuid4

from torch.distributed.distributed_c10d import PrefixStore, Store

POLL = 0.01  # seconds


def attempt_store(store: Store, rank: int, size: int, timeout: float) -> Store:
    """
    :param store: that of torchrun
    :param rank: index of this process
    :param size: number of processes
    :param timeout: how long to wait for the others, in seconds
    :return: a part of the store that no earlier attempt has written to
    :raises RuntimeError: if others did not come in time
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
            elif store.check([f"here/{other}"]):  # perhaps still that of a dead one
                store.set(f"attempt of/{store.get(f'here/{other}').decode()}", name)
        if missing and time.monotonic() > deadline:
            raise RuntimeError(f"ranks {', '.join(map(str, sorted(missing)))} did not start")
        time.sleep(POLL)
    return PrefixStore(name, store)
