"""`med` answers at once: what its help pages may import, and the CPU time of the first one."""

import json
import os
import resource
import subprocess
import sys

import pytest

from medcli.cli.table import TABLE

HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes", "jieba", "matplotlib"}
NOT_FOR_THE_ROOT = HEAVY | {"pydantic", "rich", "typer", "questionary", "prompt_toolkit", "jinja2", "numpy"}
CPU_LIMIT = 0.060  # seconds; about 0.025 where it was written
TRIES = 5  # the best counts: what a busy machine adds is not ours

# Runs `med` as its script does, then tells which modules that took.
PROBE = """
import json, sys
from medcli.cli.app import main
try:
    main()
finally:
    sys.stderr.write(json.dumps(sorted(sys.modules)))
"""


def modules_after(*words: str) -> set[str]:
    """The top-level packages imported by `med` with these words."""
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(("Usage:", "med "))
    return {name.partition(".")[0] for name in json.loads(done.stderr)}


@pytest.mark.parametrize("words", [[], ["--help"]], ids=["nothing", "--help"])
def test_the_first_page_imports_no_library(words):
    assert not NOT_FOR_THE_ROOT & modules_after(*words)


def test_the_version_loads_nothing_heavy():
    assert not HEAVY & modules_after("--version")


@pytest.mark.parametrize("command", TABLE)
def test_a_command_s_help_loads_nothing_heavy(command):
    assert not HEAVY & modules_after(command, "--help")


def test_training_s_help_loads_nothing_heavy():
    assert not HEAVY & modules_after("train", "lora", "--help")


def cpu_seconds_of_help() -> float:
    """CPU time, the system's share included, of one `med --help` in a process of its own."""
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "medcli", "--help"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return used(usage)


def used(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def test_the_first_page_takes_little_cpu_time():
    best = min(cpu_seconds_of_help() for _ in range(TRIES))
    assert best <= CPU_LIMIT, f"{best * 1000:.0f} ms"


def test_a_whole_model_speaks_without_what_trains(tiny_folder, tmp_path):
    """The trainer and peft take seconds to import; a merged model needs neither."""
    words = ["chat", str(tiny_folder), "头痛", "--temperature", "0", "--max-tokens", "4"]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "transformers" in loaded
    assert not {"peft", "trl", "datasets", "bitsandbytes", "transformers.trainer", "gradio", "openai"} & loaded
