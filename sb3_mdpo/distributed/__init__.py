"""Data-parallel training: one run on several processes or machines, started with torchrun."""

from sb3_mdpo.distributed.group import LostRankError
from sb3_mdpo.distributed.launch import process_group

__all__ = ["LostRankError", "process_group"]
