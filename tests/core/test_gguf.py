"""llama.cpp's converter, played by files of ten lines: found, heard, believed only when it left a GGUF file."""

import sys
import textwrap

import pytest

from medcli.core import gguf
from medcli.core.errors import ServiceError, UsageError
from medcli.core.report import Silent

GOOD = """
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("model"); parser.add_argument("--outfile"); parser.add_argument("--outtype")
given = parser.parse_args()
for percent in (0, 50, 100):
    print(f"Writing: {percent:3d}%|###   | 1/2", end="\\r", flush=True)
seen = " ".join(sorted(os.listdir(given.model)))
with open(given.outfile, "wb") as file:
    file.write(b"GGUF" + f"{given.outtype} {os.environ['HF_HUB_OFFLINE']} {seen}".encode())
"""


class Watched(Silent):
    def __init__(self):
        self.done = []

    def advance(self, done):
        self.done.append(done)


@pytest.fixture
def convert(tmp_path):
    """`convert(text)` writes a converter of that text and has it convert a folder with one file."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")

    def run(text, report=None, first=""):
        file = tmp_path / gguf.NAMES[0]
        file.write_text(first + textwrap.dedent(text), "utf-8")
        file.chmod(0o755 if first else 0o644)
        gguf.convert(gguf.find_converter(str(file)), model, tmp_path / "m.gguf", "f16", report or Silent())
        return (tmp_path / "m.gguf").read_bytes()

    return run


@pytest.mark.parametrize("first", ["", f"#!{sys.executable}\n", "#!/usr/bin/env python-of-nobody\n"])
def test_it_is_told_what_to_write_and_seen_at_work(convert, first):
    watched = Watched()
    assert convert(GOOD, watched, first) == b"GGUFf16 1 config.json"
    assert watched.done == [0, 50, 100, 100]


def test_what_it_says_last_is_shown_when_it_fails(convert):
    with pytest.raises(ServiceError, match="failed with exit code 3") as raised:
        convert("import sys\nfor n in range(40): print('line', n)\nsys.exit(3)")
    assert "line 39" in raised.value.hint
    assert "line 20" not in raised.value.hint


@pytest.mark.parametrize(
    "body", ["pass", "import sys; open(sys.argv[3], 'w').write('no')", "import sys; open(sys.argv[3], 'w')"]
)
def test_an_end_without_a_gguf_file_is_no_success(convert, body):
    with pytest.raises(ServiceError, match="left no GGUF file"):
        convert(body)


def test_it_is_ended_when_the_work_breaks_off(convert, tmp_path):
    class Leaves(Silent):
        def advance(self, done):
            raise KeyboardInterrupt

    body = f"""
    import os, time
    open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
    print(" 10%|", flush=True)
    time.sleep(60)
    """
    with pytest.raises(KeyboardInterrupt):
        convert(body, Leaves())
    state = (tmp_path / "pid").read_text()
    assert not (tmp_path.joinpath("/proc", state)).exists()


def test_it_is_looked_for_on_the_path_and_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gguf.find_converter("") is None
    for name in reversed(gguf.NAMES):
        file = tmp_path / name
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
        assert gguf.find_converter("") == file
    assert gguf.find_converter(str(tmp_path)) == tmp_path / gguf.NAMES[0]


def test_a_converter_that_is_not_there_is_told_with_the_way_to_get_it(tmp_path):
    with pytest.raises(UsageError, match="is no file") as raised:
        gguf.find_converter(str(tmp_path / "none.py"))
    assert len(raised.value.hint.splitlines()) == 3


def test_a_program_with_an_interpreter_of_its_own_is_run_by_it(convert):
    with pytest.raises(ServiceError, match="failed with exit code 127"):
        convert(GOOD, first="#!/nowhere/python\n")
