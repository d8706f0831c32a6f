"""Checks of the files and folders that a command is to write, made before its work. They change nothing on disk."""

from pathlib import Path
from tempfile import TemporaryFile


def check_output_file(path: Path, *endings: str) -> None:
    """Raise ``ValueError`` if the file cannot be written, or its name has none of the endings, if any are given."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file.")
    if endings and path.suffix not in endings:
        raise ValueError(f"{path} has no known format: use a name that ends in {' or '.join(endings)}.")
    _check_writable(path, path.parent)


def check_output_folder(path: Path) -> None:
    """Raise ``ValueError`` if files cannot be written to the folder, which need not exist."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is not a folder: give the name of one.")
    _check_writable(path, path)


def _check_writable(path: Path, folder: Path) -> None:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        TemporaryFile(dir=existing).close()  # permissions alone do not say it: file systems can be read-only
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({existing}: {error.strerror}): give another place.") from error
