"""Writes are there whole or not at all."""

import pytest

from medcli.core.atomic import folder_aside, writing
from medcli.core.errors import StorageError


def test_a_broken_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), writing(path) as file:
        file.write("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_broken_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "set"
    path.mkdir()
    (path / "x").write_text("old")
    with pytest.raises(ValueError, match="broken"), folder_aside(path) as aside:
        (aside / "x").write_text("half")
        raise ValueError("broken")
    assert (path / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path):
    path = tmp_path / "set"
    path.mkdir()
    (path / "x").write_text("old")
    with pytest.raises(StorageError), folder_aside(path) as aside:
        (aside / "x").write_text("new")
        aside.rename(tmp_path / "stolen")
    assert (path / "x").read_text() == "old"


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(StorageError, match="a file is where a folder must be"), folder_aside(tmp_path / "data" / "set"):
        raise AssertionError("not reached")
