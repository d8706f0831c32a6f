"""The log files of a training: how far they were written, and how to restore their content."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    JSONOutputFormat,
    Logger,
    TensorBoardOutputFormat,
)
from stable_baselines3.common.monitor import ResultsWriter

EVENTS = "events.out.tfevents.*"


@dataclass(frozen=True)
class Position:
    """
    :param path: file, absolute
    :param size: bytes of it that were written
    """

    path: Path
    size: int

    def read(self) -> bytes:
        """
        :return: its first ``size`` bytes
        """
        with self.path.open("rb") as file:
            return file.read(self.size)


def outputs(logger: Logger) -> dict[str, Any]:
    """
    :param logger: the training's logger
    :return: its outputs by name
    """
    return {f"log/{index}:{type(output).__name__}": output for index, output in enumerate(logger.output_formats)}


def appended_files(logger: Logger, writers: dict[str, ResultsWriter]) -> Iterator[tuple[str, TextIO]]:
    """
    :param logger: the training's logger
    :param writers: writers of monitor files by name
    :return: names and open text files that only grow
    """
    for name, writer in writers.items():
        yield name, writer.file_handler  # type: ignore[misc]
    for name, output in outputs(logger).items():
        if isinstance(output, JSONOutputFormat) or (isinstance(output, HumanOutputFormat) and output.own_file):
            yield name, output.file


def tables(logger: Logger) -> dict[str, CSVOutputFormat]:
    """
    :param logger: the training's logger
    :return: outputs that rewrite their whole file for a new column, by name
    """
    return {name: output for name, output in outputs(logger).items() if isinstance(output, CSVOutputFormat)}


def tensorboards(logger: Logger) -> dict[str, TensorBoardOutputFormat]:
    """
    :param logger: the training's logger
    :return: its outputs for TensorBoard, by name
    """
    return {name: output for name, output in outputs(logger).items() if isinstance(output, TensorBoardOutputFormat)}


def position(file: TextIO) -> Position:
    """
    :param file: file open for writing
    :return: its path and size
    """
    file.flush()
    return Position(Path(file.name).resolve(), os.fstat(file.fileno()).st_size)


def restore_content(file: TextIO, content: bytes) -> None:
    """
    :param file: file open for writing
    :param content: replaces its content
    """
    file.flush()
    raw = file.buffer
    raw.seek(0)
    raw.truncate()
    raw.write(content)
    raw.flush()
    file.seek(0, os.SEEK_END)


def restore_table(output: CSVOutputFormat, content: bytes) -> None:
    """
    :param output: output whose table is still empty
    :param content: content of the table
    """
    restore_content(output.file, content)
    header, _, _ = content.decode().partition("\n")
    output.keys = header.split(",") if header else []


def event_positions(output: TensorBoardOutputFormat) -> list[Position]:
    """
    :param output: output for TensorBoard
    :return: paths and sizes of the event files in its folder
    """
    output.writer.flush()
    folder = Path(output.writer.log_dir).resolve()
    return [Position(path, path.stat().st_size) for path in sorted(folder.glob(EVENTS))]


def continue_events(output: TensorBoardOutputFormat, positions: list[Position]) -> None:
    """
    Continue in the folder of the interrupted training: events written after the positions are removed, and so is the
    new folder that ``learn()`` has created. If the old folder no longer exists, the log starts anew.

    :param output: output for TensorBoard, just created
    :param positions: from :func:`event_positions`
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
