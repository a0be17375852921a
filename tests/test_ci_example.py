"""The scripts of docs/*/ci.md do what the page says: they run, run again, and tell a bad model by their exit code."""

import json
import os
import subprocess
import sys

import pytest
import typer.core
import typer.main

from medcli.cli.lazy import app
from tests.conftest import RAW
from tests.documents import PAGES, ROOT, blocks, tables, text_of

ENGLISH, CHINESE = map(text_of, PAGES["ci"])
SCRIPT, REACTION = blocks(ENGLISH, "bash")
# What keeps the training and the exam short; MED_* variables are what the page names for it.
SHORT = {
    "MED_DATA_BUILD_VALID": "0.2", "MED_DATA_BUILD_TEST": "0.2", "MED_TRAIN_LORA_BATCH": "2",
    "MED_TRAIN_LORA_MAX_LENGTH": "96", "MED_TRAIN_LORA_PRECISION": "fp32", "MED_EVAL_MAX_TOKENS": "4",
}  # fmt: skip


@pytest.fixture
def script(project, tiny_folder, tmp_path):
    """`script("--…", LEAST=…)` runs the page's second script, which runs the first, with `med` on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "med").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m medcli "$@"\n')
    (programs / "python3").symlink_to(sys.executable)
    (programs / "med").chmod(0o755)
    (project / "ci.sh").write_text(SCRIPT, "utf-8")
    given = {"RAW": str(RAW / "alpaca"), "MODEL": str(tiny_folder), "STEPS": "2", "RUN": "ci", "LEAST": "0"}
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MED_") or name == "MED_CACHE"
    }
    path = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def run(**variables):
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", REACTION], capture_output=True, text=True, check=False,
            env=environment | SHORT | path | given | variables,
        )  # fmt: skip

    return run


def written(folder):
    """When each file of data set, run and merged model was written; an exam writes its outcome each time."""
    kept = [path for part in ("data", "runs") for path in (folder / part).rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in kept if "eval" not in path.parts}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_script_runs_and_runs_again_and_tells_a_bad_model(script, project):
    first = script()
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout == "the model is in runs/ci/merged\ngood\n"
    assert (project / "runs/ci/merged/model.safetensors").is_file()
    told = {path.stem: json.loads(path.read_text("utf-8")) for path in project.glob("*.json")}
    assert sorted(told) == ["build", "check", "eval", "merge", "train"]
    assert (told["train"]["steps"], told["merge"]["equal"], told["check"]["leaked"]) == (2, True, 0)

    before = written(project)
    bad = script(LEAST="1")
    assert bad.returncode == 7
    assert bad.stdout == "the run ci is there\nthe model is not good enough\n"
    assert "rouge-l is" in bad.stderr
    assert written(project) == before  # nothing was done twice

    wrong = script(RAW="nowhere")
    assert wrong.returncode == 2
    assert wrong.stdout.endswith("somebody must look\n")


def test_both_pages_hold_the_same_scripts():
    assert blocks(ENGLISH, "bash") == blocks(CHINESE, "bash")
    assert blocks(ENGLISH, "yaml") == blocks(CHINESE, "yaml")


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_the_page_names_every_exit_code_that_is_of_use_to_a_script(text):
    assert [row[0] for row in tables(text)[1]] == ["0", "2", "3", "4", "5", "6", "7", "130, 143"]


def test_every_command_of_the_table_is_one():
    group = typer.main.get_command(app)
    for cell, _ in tables(ENGLISH)[0]:
        command, words = group, [word for word in cell.split("`")[1].split()[1:] if not word.startswith("--")]
        for word in words:
            assert isinstance(command, typer.core.TyperGroup)
            command = command.get_command(command.make_context("med", [], resilient_parsing=True), word)
            assert command, cell
