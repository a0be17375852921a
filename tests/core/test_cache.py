"""A bounded cache: the least recently used goes first, what is in use stays, and a reason when there is no room."""

import os

import pytest

from medcli.core import cache
from medcli.core.errors import StorageError

MIB = 2**20


def claim(root, key, size, bound=10 * MIB):
    with cache.claimed(root, key, "rows", size, bound) as home:
        (home / "rows").write_bytes(key.encode() * size)


def keys(root):
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def test_what_was_written_is_there_again(tmp_path):
    claim(tmp_path, "a", 8)
    with cache.claimed(tmp_path, "a", "rows", 8, MIB) as home:
        assert (home / "rows").read_bytes() == b"a" * 8
    with cache.claimed(tmp_path, "b", "rows", 8, MIB) as home:
        assert (home / "rows").read_bytes() == bytes(8)


def test_the_least_recently_used_goes_first(tmp_path):
    for when, key in enumerate("abc"):
        claim(tmp_path, key, 3 * MIB)
        os.utime(tmp_path / key, (when, when))
    claim(tmp_path, "a", 3 * MIB)
    claim(tmp_path, "d", 3 * MIB)
    assert keys(tmp_path) == ["a", "c", "d"]


def test_what_is_in_use_stays(tmp_path):
    with cache.claimed(tmp_path, "a", "rows", 6 * MIB, 10 * MIB):
        with pytest.raises(StorageError, match=r"it takes 5.0 MiB, and runs at work hold 6.0 MiB of the 10.0 MiB"):
            claim(tmp_path, "b", 5 * MIB)
        with pytest.raises(StorageError, match="another process"):
            claim(tmp_path, "a", 6 * MIB)
    assert keys(tmp_path) == ["a"]
    claim(tmp_path, "b", 5 * MIB)
    assert keys(tmp_path) == ["b"]


def test_too_large_a_thing_removes_nothing(tmp_path):
    claim(tmp_path, "a", MIB)
    with pytest.raises(StorageError, match=r"it takes 2.0 GiB, and 1.0 GiB are allowed"):
        claim(tmp_path, "b", 2 * 2**30, 2**30)
    assert keys(tmp_path) == ["a"]


def test_a_disk_without_room_to_spare_is_left_alone(tmp_path):
    with pytest.raises(StorageError, match=r"only .* are free on the disk"):
        claim(tmp_path, "a", 2**60, 2**61)
    assert keys(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a file is where a folder must be"):
        claim(tmp_path / "file", "a", 1)
