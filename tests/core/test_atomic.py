"""Writes are there whole or not at all."""

import threading

import pytest

from medcli.core.atomic import _exchanged, folder_aside, writing
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


def test_a_reader_never_finds_the_folder_missing(tmp_path):
    path, other = tmp_path / "set", tmp_path / "other"
    path.mkdir()
    other.mkdir()
    if not _exchanged(path, other):
        pytest.skip("this file system cannot exchange two folders")
    missing, done = [], threading.Event()

    def read():
        while not done.is_set():
            missing.extend([] if path.exists() else ["missing"])

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        with folder_aside(path) as aside:
            (aside / "x").write_text(str(number))
    done.set()
    reader.join()
    assert missing == []
    assert (path / "x").read_text() == "299"
    assert {p.name for p in tmp_path.iterdir()} == {"set", "other"}


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(StorageError, match="a file is where a folder must be"), folder_aside(tmp_path / "data" / "set"):
        raise AssertionError("not reached")
