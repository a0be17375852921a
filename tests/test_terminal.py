"""What a terminal, a pipe and a file are given: columns that stand under each other, colours only where they show."""

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pexpect
import pytest

from medcli.cli import console, runs
from medcli.steps.runs import Summary
from tests.conftest import RAW
from tests.engine.chat_service import chat_service

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal"),
    # Python 3.12 warns of a fork in a process with threads; the child starts another program at once.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
ROOT = Path(__file__).parents[1]
NAME = "门诊问答"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7])[;m]")
MOVING = re.compile(r"\x1b\[[0-9;?]*[A-HJKSTfhlsu]|\r(?!\n)")
NOT_UTF8 = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # as Windows does without UTF-8


@pytest.fixture
def few(built, project):
    """A data set whose name is Chinese."""
    built("few", RAW / "alpaca", "--valid", 0.2, "--test", 0.2)
    shutil.copytree(project / "data" / "few", project / "data" / NAME)
    manifest = project / "data" / NAME / "manifest.toml"
    manifest.write_text(manifest.read_text("utf-8").replace('"few"', f'"{NAME}"'), "utf-8")


def environment(**variables: str) -> dict[str, str]:
    """This process's variables without those that speak of terminals and languages."""
    foreign = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL", "LANG")
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return kept | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"} | variables


def on_terminal(*words: str, **variables: str) -> str:
    """All that `med` writes on a terminal of 80 columns."""
    terminal = pexpect.spawn(
        sys.executable, ["-m", "medcli", *words], env=environment(**variables), encoding="utf-8", timeout=60,
        dimensions=(24, 80),
    )  # fmt: skip
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0, terminal.before
    return terminal.before


def piped(*words: str, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "medcli", *words], input=stdin, capture_output=True, check=False,
        env=environment(**variables),
    )  # fmt: skip


def cells(text: str) -> int:
    """How wide a text is on a terminal, whatever rich thinks of it."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def columns(line: str) -> list[int]:
    """Where the columns of a table's row begin, in cells: after two spaces or more."""
    return [cells(line[: found.start()]) for found in re.finditer(r"(?<=\s\s)\S|^\S", line)]


def lines_of(text: str) -> list[str]:
    """The lines as they are seen in the end: a carriage return begins one anew."""
    plain = ESCAPE.sub("", text).replace("\r\n", "\n")
    return [line.rpartition("\r")[2].rstrip() for line in plain.split("\n")]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_tables_with_chinese_names_fit_and_stand_in_columns(few, language):
    listed = lines_of(on_terminal("data", "list", MED_LANG=language))
    heading = next(number for number, line in enumerate(listed) if line.startswith(NAME)) - 1
    named, latin = (next(line for line in listed if line.startswith(name)) for name in (NAME, "few"))
    assert columns(named) == columns(latin)
    assert columns(listed[heading])[:2] == columns(named)[:2]  # numbers stand to the right under their heading
    described = lines_of(on_terminal("data", "info", NAME, MED_LANG=language))
    counted = lines_of(on_terminal("data", "stats", NAME, MED_LANG=language))
    assert max(map(cells, [*listed, *described, *counted])) <= 80


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_of_runs_fits_and_stands_in_columns(capsys, monkeypatch, width):
    """Of names and bases as long as they are."""
    monkeypatch.setenv("COLUMNS", str(width))
    one = Summary(
        name="ppo-门诊问答第二版", method="ppo", base="Qwen/Qwen2.5-0.5B-Instruct + lora", data=(NAME, "huatuo26m"),
        status="interrupted", steps=120, planned=3200, loss=None, valid_loss=None, started="2026-11-29T08:48:30+0000",
        reward=1.2, valid_reward=1.4, valid_accuracy=None,
    )  # fmt: skip
    names = ("name", "method", "base", "data", "status", "steps", "loss", "valid", "started")
    console.show_rows(False, names, [runs._row(one)] * 2)
    heading, *rows = lines_of(capsys.readouterr().out)
    assert max(map(cells, (heading, *rows))) <= width
    first = next(row for row in rows if row.startswith("ppo"))
    assert set(columns(first)) <= set(columns(heading))


def test_no_color_means_none(few):
    shown = on_terminal("data", "stats", NAME, NO_COLOR="1")
    assert COLOUR.search(shown) is None
    assert COLOUR.search(on_terminal("data", "stats", NAME))


def test_a_dumb_terminal_is_given_plain_lines(few):
    shown = on_terminal("data", "stats", NAME, TERM="dumb")
    assert ESCAPE.search(shown) is None
    assert MOVING.search(shown) is None
    assert f"counting {NAME}: 7 records" in shown


def test_pipes_hold_no_escapes_unless_forced(few):
    plain = piped("data", "stats", NAME)
    assert plain.returncode == 0
    assert b"\x1b" not in plain.stdout + plain.stderr
    assert b"\r" not in plain.stdout + plain.stderr
    wrong = piped("data", "info", "nowhere")
    assert b"\x1b" not in wrong.stderr
    assert b"\x1b[" in piped("data", "info", "nowhere", FORCE_COLOR="1").stderr
    assert b"\x1b" not in piped("data", "show", NAME, "--json", FORCE_COLOR="1").stdout


@pytest.mark.parametrize("variables", [{}, NOT_UTF8], ids=["UTF-8", "another locale"])
def test_pipes_are_utf8_whatever_the_locale(few, variables):
    shown = piped("data", "show", NAME, "--json", MED_LANG="zh", **variables)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout.decode("utf-8"))["source"] == "few"
    assert "没有" in piped("data", "info", "nowhere", MED_LANG="zh", **variables).stderr.decode("utf-8")


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", ascii(NAME)[1:-1]), ("gbk", NAME)])
def test_an_encoding_that_is_asked_for_is_kept_to_and_never_a_fault(few, encoding, shown):
    listed = piped("data", "list", PYTHONIOENCODING=encoding)
    assert listed.returncode == 0, listed.stderr
    assert shown in listed.stdout.decode(encoding)
    assert b"Traceback" not in listed.stderr


def test_questions_from_windows_are_read(project):
    """A mark of byte order in front, lines that end in CR LF, in a locale that is not UTF-8; and GB 18030 is told."""
    questions = "\ufeff头痛怎么办？\r\n\r\n咳嗽\r\n".encode()
    with chat_service(lambda body: "多喝水") as service:
        words = ("chat", f"{service.url}#m", "--json", "--quiet")
        answered = piped(*words, stdin=questions, **NOT_UTF8)
        refused = piped(*words, stdin="感冒".encode("gb18030"), **NOT_UTF8)
    assert answered.returncode == 0, answered.stderr
    assert [json.loads(line)["question"] for line in answered.stdout.splitlines()] == ["头痛怎么办？", "咳嗽"]
    assert refused.returncode == 3
    assert b"iconv" in refused.stderr
