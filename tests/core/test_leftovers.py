"""What killed processes have left is told from what living ones write and from what is the only copy."""

import os
import subprocess
import sys

import pytest

from medcli.core.leftovers import leftovers_in, moved_aside_in


@pytest.fixture(scope="module")
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_what_a_dead_process_has_left_counts(tmp_path, gone):
    (tmp_path / f".few.{gone}.part").mkdir()
    (tmp_path / f".few.{os.getpid()}.part").mkdir()
    (tmp_path / ".few.part").mkdir()
    (tmp_path / "few").mkdir()
    assert [path.name for path in leftovers_in(tmp_path)] == [f".few.{gone}.part"]


def test_the_only_copy_stays_and_is_told(tmp_path, gone):
    aside = tmp_path / f".few.{gone}.old"
    aside.mkdir()
    assert list(leftovers_in(tmp_path)) == []
    assert list(moved_aside_in(tmp_path)) == [(aside, tmp_path / "few")]
    (tmp_path / "few").mkdir()
    assert list(leftovers_in(tmp_path)) == [aside]


def test_a_link_is_left_alone(tmp_path, gone):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f".few.{gone}.part").symlink_to(tmp_path / "elsewhere")
    assert list(leftovers_in(tmp_path)) == []


def test_a_folder_that_is_not_there_has_none(tmp_path):
    assert list(leftovers_in(tmp_path / "none")) == []
