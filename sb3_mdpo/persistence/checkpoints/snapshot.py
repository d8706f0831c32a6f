"""What there is to say about a training at the start of a rollout."""

from dataclasses import dataclass, field
from typing import Any

from sb3_mdpo.persistence.checkpoints.log_files import Position


@dataclass(frozen=True)
class Snapshot:
    """
    :param num_timesteps: environment steps of all policies together
    :param iterations: rollouts that were followed by an update
    :param seconds: what the training has taken until then
    :param settings: what the model was made with, as far as it is numbers, booleans or words
    :param problems: why a training that goes on from here would not be the same bit for bit; empty where it is
    :param state: a pickle of everything that changes in a training
    :param files: text that was written at the end of files, by name
    :param tables: text of files that are rewritten now and then, by name
    :param events: TensorBoard's files, by name of what writes them
    :param others: what ``state`` is to the first process, to those after it, where several train together
    """

    num_timesteps: int
    iterations: int
    seconds: float
    settings: dict[str, Any]
    problems: list[str]
    state: bytes
    files: dict[str, Position]
    tables: dict[str, bytes]
    events: dict[str, list[Position]]
    others: list[bytes] = field(default_factory=list)
