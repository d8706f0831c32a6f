"""Outputs are checked before the work, and by that nothing is written."""

from pathlib import Path

import pytest

from sb3_mdpo.utils.outputs import check_output_file, check_output_folder


def test_new_and_old_outputs_are_accepted_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = tmp_path / "old.csv"
    old.write_text("old")
    for path in (old, tmp_path / "new.csv", tmp_path / "a" / "b" / "new.csv", Path("new.csv"), Path("a/new.csv")):
        check_output_file(path)
        check_output_file(path, ".json", ".csv")
    for path in (tmp_path, tmp_path / "a" / "b", Path("a"), Path()):
        check_output_folder(path)
    assert [path.name for path in tmp_path.rglob("*")] == ["old.csv"]
    assert old.read_text() == "old"


def test_outputs_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file.csv").write_text("")
    (tmp_path / "folder.csv").mkdir()
    for path, message in (
        ("folder.csv", "is a folder: give the name of a file"),
        ("new.txt", "use a name that ends in .csv or .json"),
        ("file.csv/new.csv", "cannot be written .*file.csv: Not a directory"),
        ("/proc/new.csv", "cannot be written"),
    ):
        with pytest.raises(ValueError, match=message):
            check_output_file(tmp_path / path, ".csv", ".json")
    for path, message in (
        ("file.csv", "is not a folder"),
        ("file.csv/new", "cannot be written"),
        ("/proc/new", "cannot be written"),
    ):
        with pytest.raises(ValueError, match=message):
            check_output_folder(tmp_path / path)
