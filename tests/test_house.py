"""The house rules, held by tools: style, types, floors, and sizes that keep every file readable."""

import ast
import re
from pathlib import Path

import pytest

from tests.check import ROOT, TOOLS, faults_found_by

PACKAGE = ROOT / "medcli"
CODE = sorted(
    path
    for folder in ("medcli", "tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
    if path.is_file()
)
LONGEST_FILE = 400  # lines
LONGEST_FUNCTION = 60
VAGUE_NAMES = {"utils", "common", "helpers", "base", "manager", "misc"}
# Written apart, so that this file does not break its own rule.
LEFT_OVER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME)\b")


@pytest.mark.parametrize("tool", TOOLS)
def test_the_tools_find_nothing(tool):
    assert faults_found_by(TOOLS[tool]) == ""


def named(paths: list[Path]) -> object:
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


@named(CODE)
def test_files_and_functions_are_short(path):
    text = path.read_text("utf-8")
    lines = text.count("\n")
    assert lines <= LONGEST_FILE, f"{lines} lines"
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not long


@named([path for path in CODE if path.is_relative_to(PACKAGE)])
def test_functions_say_what_they_return(path):
    silent = [
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is None
    ]
    assert not silent


@named([path for path in CODE if path.is_relative_to(PACKAGE)])
def test_modules_say_what_they_are(path):
    text = path.read_text("utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "the module has no docstring"


def test_no_module_has_a_name_that_says_nothing():
    names = {path.stem for path in CODE} | {path.parent.name for path in CODE}
    assert not names & VAGUE_NAMES


@named(CODE)
def test_nothing_is_left_for_later(path):
    found = [
        f"line {number}: {line.strip()}"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if LEFT_OVER.search(line)
    ]
    assert not found
