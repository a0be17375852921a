"""CONTRIBUTING.md says what is so: its commands run, its files and names are there; and one command checks all."""

import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

from medcli.core.shelf import Shelf
from tests import check
from tests.documents import ROOT, commands, tables, text_of

TEXT = text_of(ROOT / "CONTRIBUTING.md")
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")


def test_files_that_are_named_are_there():
    named = re.findall(r"`((?:medcli|tests|templates|docs|cli|core)/[\w/.-]+)`", TEXT)
    there = [name for name in named if not re.search(r"NAME|\*", name)]
    assert len(there) > 8
    missing = [name for name in there if not (ROOT / name).exists() and not (ROOT / "medcli" / name).exists()]
    assert missing == []
    assert re.findall(r"^\w+(?=  )", TEXT.partition("```text")[2].partition("```")[0], re.MULTILINE) == [
        "cli", "web", "steps", "rewards", "engine", "core",
    ]  # fmt: skip


def test_what_a_plug_in_holds_every_one_of_them_holds():
    shelves = {row[0]: (row[1], re.findall(r"`(\w+)(?:\(\))?`", row[2])) for row in tables(TEXT)[0]}
    for kind in ("importer", "method", "metric", "exam"):
        place, names = shelves[kind]
        package = place.split("/")[1]
        assert names, kind
        for plug_in in Shelf(f"medcli.{package}", kind).names():
            module = import_module(f"medcli.{package}.{plug_in}")
            assert set(names) <= set(vars(module)), f"{package}/{plug_in}"


@pytest.mark.parametrize("words", commands(TEXT), ids=shlex.join)
def test_every_command_is_one(words):
    """Modules that are run take these flags, files that are tested are there; nothing is installed here."""
    match words:
        case ["python", "-m", module, *flags] if module.startswith("tests."):
            told = subprocess.run(
                [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout
            assert [flag for flag in flags if flag not in told] == []
        case ["pytest", *rest]:
            assert [word for word in rest if word.endswith(".py") and not (ROOT / word).is_file()] == []
        case ["pip", "install", "-e", target]:
            extra = target.partition("[")[2].rstrip("]")
            assert extra in tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
        case _:
            assert words[:3] == ["python", "-m", "venv"]


def test_hooks_download_nothing_and_call_the_check():
    assert re.findall(r"repo: (\S+)", HOOKS) == ["local"]
    assert set(re.findall(r"language: (\S+)", HOOKS)) == {"system"}
    assert "python -m tests.check --fast" in HOOKS
    assert all((ROOT / path).is_file() for path in re.findall(r"tests/\w+\.py", HOOKS))


def test_the_check_goes_on_after_a_fault_and_tells_of_each(capsys):
    """With tools that are quick: the real ones are run by test_house."""
    python = sys.executable
    tools = {
        "good": (python, "-c", ""),
        "bad": (python, "-c", "raise SystemExit('a fault')"),
        "last": (python, "-c", ""),
    }
    assert check.run(tools) == 1
    shown = capsys.readouterr().out.splitlines()
    assert [line[:6].rstrip() for line in shown] == ["✓ good", "✗ bad", "a faul", "✓ last"]
    assert all(re.search(r"\d\.\d s$", line) for line in shown if line[0] in "✓✗")


def test_the_documents_that_are_checked_apart_are_there():
    named = [word for words in check.TESTS.values() for word in words if word.startswith("tests/")]
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
