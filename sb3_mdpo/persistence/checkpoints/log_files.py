"""The files that a training writes line by line: up to where they were written, and their content put back."""

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


@dataclass(frozen=True)
class Position:
    """
    :param path: file, absolute
    :param size: how much of it had been written, in bytes
    """

    path: Path
    size: int

    def read(self) -> bytes:
        """
        :return: what had been written
        """
        with self.path.open("rb") as file:
            return file.read(self.size)


def appended_files(logger: Logger, writers: dict[str, ResultsWriter]) -> Iterator[tuple[str, TextIO]]:
    """
    :param logger: the training's logger
    :param writers: what writes monitor files, by name
    :return: names and open files of text that only grows
    """
    for name, writer in writers.items():
        yield name, writer.file_handler  # type: ignore[misc]
    for name, output in outputs(logger).items():
        if isinstance(output, JSONOutputFormat) or (isinstance(output, HumanOutputFormat) and output.own_file):
            yield name, output.file


def tables(logger: Logger) -> dict[str, CSVOutputFormat]:
    """
    :param logger: the training's logger
    :return: outputs that write their whole file anew when there is another column, by name
    """
    return {name: output for name, output in outputs(logger).items() if isinstance(output, CSVOutputFormat)}


def outputs(logger: Logger) -> dict[str, Any]:
    """
    :param logger: the training's logger
    :return: what it writes to, by name
    """
    return {f"log/{index}:{type(output).__name__}": output for index, output in enumerate(logger.output_formats)}


def position(file: TextIO) -> Position:
    """
    :param file: file that is written
    :return: how far
    """
    file.flush()
    return Position(Path(file.name).resolve(), os.fstat(file.fileno()).st_size)


def content_of(file: TextIO) -> bytes:
    """
    :param file: file that is written
    :return: what it holds
    """
    return position(file).read()


def put_content_back(file: TextIO, content: bytes) -> None:
    """
    :param file: file open for writing, whose content is replaced
    :param content: what it shall hold
    """
    file.flush()
    raw = file.buffer
    raw.seek(0)
    raw.truncate()
    raw.write(content)
    raw.flush()
    file.seek(0, os.SEEK_END)


def put_table_back(output: CSVOutputFormat, content: bytes) -> None:
    """
    :param output: table that has just been begun
    :param content: what it shall hold
    """
    put_content_back(output.file, content)
    header, _, _ = content.decode().partition("\n")
    output.keys = header.split(",") if header else []


def event_positions(output: TensorBoardOutputFormat) -> list[Position]:
    """
    :param output: TensorBoard's
    :return: how far the event files in its folder are written
    """
    output.writer.flush()
    folder = Path(output.writer.log_dir).resolve()
    return [Position(path, path.stat().st_size) for path in sorted(folder.glob("events.out.tfevents.*"))]


def continue_events(output: TensorBoardOutputFormat, positions: list[Position]) -> None:
    """
    Go on in the folder of the interrupted training: what it wrote after the positions is forgotten, and so is the new
    folder that ``learn()`` has made. Where the folder is no longer there, the log starts anew.

    :param output: TensorBoard's, just made
    :param positions: from :func:`event_positions`
    """
    if not positions or not positions[0].path.parent.is_dir():
        return
    from torch.utils.tensorboard.writer import SummaryWriter

    made = Path(output.writer.log_dir).resolve()
    output.writer.close()
    folder = positions[0].path.parent
    kept = {position.path: position.size for position in positions}
    for path in folder.glob("events.out.tfevents.*"):
        if path not in kept:
            path.unlink()
        elif path.stat().st_size > kept[path]:
            os.truncate(path, kept[path])
    if made != folder:
        for path in made.glob("events.out.tfevents.*"):
            path.unlink()
        if not any(made.iterdir()):
            made.rmdir()
    output.writer = SummaryWriter(log_dir=str(folder))
