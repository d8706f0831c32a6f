"""Messages on the command line."""

import argparse
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

LONGEST_MESSAGE = 1000  # characters
CODE = "can execute code of whoever made it: for models of others use sb3-mdpo pull or MDPO.from_export()."


def one_line(message: object, longest: int = LONGEST_MESSAGE) -> str:
    """A message in one printable line, without the middle of what is longer."""
    text = " ".join(str(message).split())
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} [...] {text[-half:]}"


def add_code_note(parser: argparse.ArgumentParser) -> None:
    """Say in the help of a command that it unpickles."""
    parser.epilog = f"Opening a run folder or a saved model {CODE}"


def note_code(*paths: Path) -> None:
    """Say on stderr, before files that exist are opened, that they can execute code."""
    if found := [str(path) for path in paths if path.exists()]:
        print(one_line(f"Opening {', '.join(found)} {CODE}"), file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are always one line."""

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """A plain text table, with the indices of its left-aligned columns; the others are right-aligned."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    formats = [f"{{:{'<' if index in left else '>'}{width}}}" for index, width in enumerate(widths)]
    return "\n".join("  ".join(map(str.format, formats, line)).rstrip() for line in lines)
