"""The log files of a training: how far they were written, and how to restore their content."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    JSONOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
)
from stable_baselines3.common.monitor import ResultsWriter

Output = TypeVar("Output", bound=KVWriter)
EVENTS = "events.out.tfevents.*"


@dataclass(frozen=True)
class Position:
    """The first ``size`` bytes of the file at the absolute ``path``."""

    path: Path
    size: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(self.size)


def outputs(logger: Logger, kind: type[Output]) -> dict[str, Output]:
    """The logger's outputs of this class by name."""
    named = {f"log/{index}:{type(output).__name__}": output for index, output in enumerate(logger.output_formats)}
    return {name: output for name, output in named.items() if isinstance(output, kind)}


def appended_files(logger: Logger, writers: dict[str, ResultsWriter]) -> Iterator[tuple[str, TextIO]]:
    """Names of log and monitor files that only grow, and the open files."""
    for name, writer in writers.items():
        yield name, writer.file_handler  # type: ignore[misc]
    for name, output in (outputs(logger, JSONOutputFormat) | outputs(logger, HumanOutputFormat)).items():
        if isinstance(output, JSONOutputFormat) or output.own_file:
            yield name, output.file


def position(file: TextIO) -> Position:
    """Path and size of a file that is being written."""
    file.flush()
    return Position(Path(file.name).resolve(), os.fstat(file.fileno()).st_size)


def restore_content(file: TextIO, content: bytes) -> None:
    """Replace the content of a file that is open for writing."""
    file.flush()
    raw = file.buffer
    raw.seek(0)
    raw.truncate()
    raw.write(content)
    raw.flush()
    file.seek(0, os.SEEK_END)


def restore_table(output: CSVOutputFormat, content: bytes) -> None:
    """Restore the content of a CSV output whose table is still empty."""
    restore_content(output.file, content)
    header, _, _ = content.decode().partition("\n")
    output.keys = header.split(",") if header else []


def event_positions(output: TensorBoardOutputFormat) -> list[Position]:
    """Paths and sizes of the event files in the output's folder."""
    output.writer.flush()
    folder = Path(output.writer.log_dir).resolve()
    return [Position(path, path.stat().st_size) for path in sorted(folder.glob(EVENTS))]


def continue_events(output: TensorBoardOutputFormat, positions: list[Position]) -> None:
    """
    Continue in the folder of the interrupted training: events written after the positions are removed, and so is the
    new folder that ``learn()`` has created. If the old folder no longer exists, the log starts anew.
    """
    if not positions or not positions[0].path.parent.is_dir():
        return
    from torch.utils.tensorboard.writer import SummaryWriter

    created, folder = Path(output.writer.log_dir).resolve(), positions[0].path.parent
    output.writer.close()
    kept = {position.path: position.size for position in positions}
    for path in folder.glob(EVENTS):
        if path not in kept:
            path.unlink()
        elif path.stat().st_size > kept[path]:
            os.truncate(path, kept[path])
    if created != folder:
        for path in created.glob(EVENTS):
            path.unlink()
        if not any(created.iterdir()):
            created.rmdir()
    output.writer = SummaryWriter(log_dir=str(folder))
