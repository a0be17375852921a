"""What can be freed: only what can be made again, never what is in use, and never through a link."""

import os
import socket
import subprocess
import sys

import filelock
import pytest

from medcli.core.errors import UnknownNameError
from medcli.core.run_folder import RunFolder
from medcli.steps.clean import free, freeable


@pytest.fixture(scope="module")
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def cache(project, tmp_path, gone):
    """A cache with something of every kind, and things that are none."""
    root = tmp_path / "cache"
    for place in ("med-tiny-abc", "trunk/key", "downloads/cmexam", f"launches/{socket.gethostname()}-{gone}-1"):
        (root / place).mkdir(parents=True)
        (root / place / "file").write_bytes(b"12345")
    (root / "launches" / f"{socket.gethostname()}-{os.getpid()}-1").mkdir()
    (root / "jieba.cache").write_bytes(b"123")
    (root / "chat_history").write_text("mine", "utf-8")
    (root / f".med-tiny-abc.{gone}.part").mkdir()
    return root


@pytest.fixture
def run(project):
    made = RunFolder(project / "runs" / "one")
    for place in (made.adapter, made.checkpoints / "checkpoint-1"):
        place.mkdir(parents=True)
    (made.adapter / "adapter_config.json").write_text("{}", "utf-8")
    (made.checkpoints / "checkpoint-1" / "state").write_bytes(b"1234567")
    made.write_table({"run": {"method": "lora", "status": "finished"}})
    return made


def kinds(found):
    return {one.kind: one.size for one in found}


def test_every_kind_is_found_with_its_size(cache, run):
    sizes = {"med-tiny": 5, "trunk": 5, "downloads": 5, "launches": 5, "words": 3, "leftovers": 0}
    assert kinds(freeable()) == sizes
    assert kinds(freeable(checkpoints=True)) == {**sizes, "checkpoints": 7}
    assert kinds(freeable(["words", "trunk"])) == {"trunk": 5, "words": 3}
    assert kinds(freeable(["checkpoints"])) == {"checkpoints": 7}


def test_what_is_freed_is_gone_and_all_else_stays(cache, run):
    assert sum(map(free, freeable(checkpoints=True))) == 30
    assert freeable(checkpoints=True) == []
    assert (cache / "chat_history").read_text("utf-8") == "mine"
    assert (cache / "launches" / f"{socket.gethostname()}-{os.getpid()}-1").is_dir()
    assert (run.adapter / "adapter_config.json").is_file()


@pytest.mark.parametrize(
    ("kind", "lock"),
    [
        ("trunk", "trunk/key/.lock"),
        ("trunk", "trunk/.lock"),
        ("downloads", "downloads/cmexam.lock"),
        ("med-tiny", "med-tiny-abc.lock"),
    ],
)
def test_what_a_process_holds_stays(cache, kind, lock):
    (before,) = freeable([kind])
    with filelock.FileLock(cache / lock):
        (held,) = freeable([kind])
        assert held.held
        assert free(before) == free(held) == 0
        assert before.path.is_dir() or before.locks == ()
    (after,) = freeable([kind])
    assert not after.held


def test_checkpoints_of_a_run_that_is_not_finished_stay(run):
    run.write_table({"run": {"method": "lora", "status": "running"}})
    assert freeable(["checkpoints"]) == []


def test_checkpoints_stay_where_the_weights_are_gone_or_damaged(run):
    (run.adapter / "adapter_model.safetensors").write_bytes(b"cut")
    assert freeable(["checkpoints"]) == []
    (run.adapter / "adapter_model.safetensors").unlink()
    assert len(freeable(["checkpoints"])) == 1
    (run.adapter / "adapter_config.json").unlink()
    assert freeable(["checkpoints"]) == []


def test_checkpoints_of_a_run_whose_toml_is_broken_stay(run):
    run.settings_file.write_text("broken = = 1", "utf-8")
    assert freeable(["checkpoints"]) == []


def test_links_are_not_followed(cache, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("years", "utf-8")
    (cache / "trunk" / "link").symlink_to(precious)
    (cache / "trunk" / "key" / "inside").symlink_to(precious)
    (only,) = freeable(["trunk"])
    assert only.path.name == "key"
    free(only)
    assert (precious / "thesis").read_text("utf-8") == "years"
    assert (cache / "trunk" / "link").is_symlink()


def test_what_is_gone_by_then_is_no_error(cache):
    (only,) = freeable(["downloads"])
    assert free(only) == 5
    assert free(only) == 0


def test_an_unknown_kind_is_told_with_the_nearest(project):
    with pytest.raises(UnknownNameError) as caught:
        freeable(["trunks"])
    assert "did you mean 'trunk'?" in caught.value.hint
