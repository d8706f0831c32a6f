"""Processor time and memory that a part of a test takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


@dataclass
class Usage:
    seconds: float = 0.0  #: of the processor, so that other processes do not count
    mebibytes: int = 0  #: at most at any time, beyond what was used before; 0 if the system is not Linux


@contextmanager
def measuring() -> Iterator[Usage]:
    """Context that yields what it takes, known at its end."""
    usage, before = Usage(), 0
    if RESET.exists():
        RESET.write_text("5")  # the highest memory so far becomes the present one
        before = _mebibytes("VmRSS")
    start = time.process_time()
    try:
        yield usage
    finally:
        usage.seconds = time.process_time() - start
        if RESET.exists():
            usage.mebibytes = max(0, _mebibytes("VmHWM") - before)


def _mebibytes(name: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) // 1024
