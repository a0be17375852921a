"""`med export` on the command line: what it prints, asks and refuses, and what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import exports
from tests.steps.push_server import TOKEN, serving

SLOW = """
import os, sys, time
with open({pid!r}, "w") as file:
    file.write(str(os.getpid()))
time.sleep(120)
"""


def test_it_says_what_is_there_and_what_is_next(med, tiny_folder):
    result = med("export", tiny_folder, "--output", "out")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("out: safetensors, ")
    assert "README.md, SHA256SUMS, chat_template.jinja" in result.stdout
    assert "next:  sha256sum --check SHA256SUMS" in result.stdout
    assert "copying" in result.stderr


def test_json_tells_the_same(med, cached_tiny):
    result = med("export", "med-tiny", "--output", "out", "--json", "--quiet")
    found = json.loads(result.stdout)
    assert found["path"] == "out"
    assert found["licence"] == "apache-2.0"
    assert found["files"] == sorted(path.name for path in Path("out").iterdir())
    assert found["bytes"] == sum(path.stat().st_size for path in Path("out").iterdir())
    assert (found["warnings"], found["pushed"], result.stderr) == ([], "", "")


@pytest.mark.parametrize(
    ("kind", "said"), [("gguf", "llama-cli -m out/"), ("ollama", "ollama create out -f Modelfile")]
)
def test_the_next_step_is_the_format_s(med, tiny_folder, tmp_path, kind, said):
    result = med("export", tiny_folder, "--output", "out", "--format", kind, "--converter", exports.converter(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert said in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["med-tiny"], 2, "--output is missing"),
        (["med-tiny", "--output", "out", "--format", "pickle"], 2, "'pickle' is not a choice"),
        (["med-tinny", "--output", "out"], 4, "did you mean 'med-tiny'?"),
        (["med-tiny", "--output", "out", "--push", "clinic/tiny"], 2, "nobody is here to ask"),
        (["med-tiny", "--output", "out", "--push", "tiny", "--yes"], 2, "is not OWNER/NAME"),
        (["med-tiny", "--output", "out", "--outtype", "q2"], 2, "'q2' is not a choice"),
    ],
)
def test_what_is_wrong_is_said(med, cached_tiny, project, words, code, said):
    result = med("export", *words)
    assert result.exit_code == code
    assert said in result.stderr
    assert not list(project.iterdir())


def test_what_a_converter_says_is_shown(med, tiny_folder, tmp_path):
    converter = exports.converter(tmp_path, "raise SystemExit('Model LlamaForCausalLM is not supported')")
    result = med("export", tiny_folder, "--output", "out", "--format", "gguf", "--converter", converter)
    assert result.exit_code == 6
    assert "convert_hf_to_gguf.py failed with exit code 1" in result.stderr
    assert "Model LlamaForCausalLM is not supported" in result.stderr


def test_a_push_names_its_page_and_never_the_token(med, tiny_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        result = med("export", tiny_folder, "--output", "out", "--push", "clinic/tiny", "--yes")
        assert result.exit_code == 0, result.stderr
        assert f"pushed: {hub.address}/clinic/tiny" in result.stdout
        hub.statuses["/api/whoami-v2"] = 401
        refused = med("export", tiny_folder, "--output", "other", "--push", "clinic/other", "--yes")
    assert refused.exit_code == 6
    assert "hf auth login" in refused.stderr
    assert TOKEN not in result.stdout + result.stderr + refused.stderr
    assert not Path("other").exists()


def test_a_killed_export_does_not_stand_in_the_way_of_the_next(med, project, tiny_folder, tmp_path):
    pid = tmp_path / "pid"
    words = ["export", str(tiny_folder), "--output", "out", "--format", "gguf", "--converter"]
    slow = exports.converter(tmp_path, SLOW.format(pid=str(pid)))
    killed = subprocess.Popen([sys.executable, "-m", "medcli", *words, slow], cwd=project, stderr=subprocess.DEVNULL)
    try:
        while not (pid.is_file() and pid.read_text()):
            assert killed.poll() is None
            time.sleep(0.05)
    finally:
        killed.kill()
        killed.wait()
        os.kill(int(pid.read_text()), signal.SIGKILL)
    assert [path.name for path in project.iterdir()] == [f".out.{killed.pid}.part"]
    result = med(*words, exports.converter(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in project.iterdir()] == ["out"]
