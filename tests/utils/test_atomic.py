"""Files that replace others, and what killed processes leave of them."""

import signal
from pathlib import Path

import pytest

from sb3_mdpo.utils.atomic import remove_unfinished, replacing
from tests.support import commands
from tests.support.studies import wait_until


def write_half(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"half")
        file.flush()
        while True:
            signal.pause()


def unfinished(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_process_left_of_a_file_is_removed_when_it_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "final [1].zip"
    process = commands._context.Process(target=write_half, args=(path,))
    process.start()
    try:
        name = f".final [1].zip.{process.pid}.tmp"
        wait_until(lambda: (tmp_path / name).exists() and (tmp_path / name).stat().st_size == 4, 300)
        with replacing(path) as file:
            file.write(b"whole")
        assert unfinished(tmp_path) == [name]  # its process lives
    finally:
        process.kill()
        process.join()
    others = [".final [1].zip.backup.tmp", ".other.zip.1.tmp"]
    for other in others:
        (tmp_path / other).touch()
    (tmp_path / ".final [1].zip.1.tmp").mkdir()
    with replacing(path) as file:
        file.write(b"whole again")
    assert unfinished(tmp_path) == sorted([*others, ".final [1].zip.1.tmp"])
    assert path.read_bytes() == b"whole again"
    remove_unfinished(tmp_path, "*.zip")
    assert unfinished(tmp_path) == [".final [1].zip.1.tmp", others[0]]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with replacing(path) as file:
        file.write(b"before")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"half", 2])  # type: ignore[list-item]
    assert [(one.name, one.read_bytes()) for one in path.parent.iterdir()] == [("file", b"before")]
