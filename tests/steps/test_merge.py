"""A merge that is stopped or killed leaves no half folder, and says who it was made of."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from medcli.core.report import Silent
from medcli.steps import merge
from tests.engine import small_adapters

FAST = merge.Settings(check=False)
KILLED = """
import os, signal
from medcli.core.report import Silent
from medcli.steps import merge

class Killing(Silent):
    def stage(self, name, total=None, unit=""):
        if name.startswith("merging"):
            os.kill(os.getpid(), signal.SIGKILL)

merge.merge("one", merge.Settings(check=False), Killing())
"""


class Stopping(Silent):
    """A person who presses Ctrl-C when the weights are about to be written."""

    def stage(self, name, total=None, unit=""):
        if name.startswith("merging"):
            raise KeyboardInterrupt


class Watching(Silent):
    """Keeps the stages, and how far each got."""

    def __init__(self):
        self.stages = []

    def stage(self, name, total=None, unit=""):
        self.stages.append([name, total, 0])

    def advance(self, done):
        self.stages[-1][2] = done


@pytest.fixture
def one(project, tiny_folder):
    return small_adapters.write_run("one", tiny_folder)


def left_in(folder):
    return sorted(path.name for path in folder.iterdir() if "merged" in path.name)


def test_ctrl_c_leaves_nothing(one):
    with pytest.raises(KeyboardInterrupt):
        merge.merge("one", FAST, Stopping())
    assert left_in(one) == []


def test_a_kill_leaves_nothing_that_is_taken_for_a_model_and_the_next_merge_clears_it(one):
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", KILLED], env=path, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = left_in(one)
    assert left.startswith(".merged.")
    assert merge.merge("one", FAST, Silent()).path.is_dir()
    assert left_in(one) == ["merged"]


def test_progress_is_told_in_mebibytes(one):
    report = Watching()
    merge.merge("one", FAST, report)
    (stage,) = (stage for stage in report.stages if stage[0].startswith("merging"))
    assert stage[0] == "merging 1 shard"
    assert stage[1] >= 1


def test_what_was_compared_is_returned(one):
    found = merge.merge("one", merge.Settings(), Silent())
    assert (found.compared, found.different, found.streamed) == (4, 0, True)
    assert found.logits is not None
    assert found.bytes == sum(path.stat().st_size for path in found.path.iterdir())
