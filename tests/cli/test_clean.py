"""`med clean` shows, asks, and deletes nothing by itself."""

import json
import os
import pty
import subprocess
import sys

import pytest


@pytest.fixture
def cached(project, tmp_path):
    file = tmp_path / "cache" / "jieba.cache"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * 2048)
    return file


def test_an_empty_cache_needs_no_question(med):
    done = med("clean")
    assert (done.exit_code, done.stdout) == (0, "there is nothing to free\n")


def test_without_a_terminal_nothing_is_deleted(med, cached):
    done = med("clean")
    assert done.exit_code == 2
    assert "jieba.cache" in done.stdout
    assert "nobody is here to ask whether to free 2.0 KiB" in done.stderr
    assert cached.is_file()


def test_yes_frees(med, cached):
    done = med("clean", "--yes")
    assert (done.exit_code, cached.exists()) == (0, False)
    assert "2.0 KiB are free now" in done.stdout


def test_json_only_shows(med, cached):
    told = json.loads(med("clean", "--json").stdout)
    assert told["freeable"] == [
        {
            "kind": "words",
            "path": str(cached),
            "bytes": 2048,
            "again": "made when Chinese words are next cut: seconds",
            "held": False,
        }
    ]
    assert told["bytes"] == 2048
    assert set(told["hub"]) == {"path", "bytes"}
    refused = med("clean", "--json", "--yes")
    assert (refused.exit_code, cached.is_file()) == (2, True)


def test_only_what_is_named_is_freed(med, cached, tmp_path):
    trunk = tmp_path / "cache" / "trunk" / "key"
    trunk.mkdir(parents=True)
    assert med("clean", "trunk", "--yes").exit_code == 0
    assert (trunk.exists(), cached.is_file()) == (False, True)


@pytest.mark.parametrize(("answer", "stays"), [(b"n\n", True), (b"\n", True), (b"y\n", False), (b"\x03", True)])
def test_on_a_terminal_it_asks(cached, project, answer, stays):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "medcli", "clean"], cwd=project, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    said = b""
    while b"Free" not in said:
        said += os.read(leader, 4096)
    if answer == b"\x03":
        process.send_signal(2)
    else:
        os.write(leader, answer)
    while process.poll() is None:
        try:
            said += os.read(leader, 4096)
        except OSError:
            break
    assert process.wait(timeout=20) == (130 if answer == b"\x03" else 0), said
    os.close(leader)
    assert cached.is_file() is stays
