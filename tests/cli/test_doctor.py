"""`med doctor` as a person runs it: what it prints, what it ends with, and that a broken torch does not stop it."""

import json
import os
import subprocess
import sys

import pytest

from medcli.core.finding import Finding
from medcli.steps.doctor import exit_code


def doctor(folder, *words, **variables):
    """`med doctor --offline` in a process of its own, in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "medcli", "doctor", "--offline", *words],
        cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def no_torch(tmp_path):
    """A folder of modules whose torch cannot be imported: examining takes no time, and must go on."""
    folder = tmp_path / "modules"
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so.13 is not here')\n", "utf-8")
    return str(folder)


def test_a_sound_machine_is_well_and_told_as_json(project):
    done = doctor(project, "--json")
    told = json.loads(done.stdout)
    checks = [one["check"] for one in told["findings"]]
    assert set(told) == {"ok", "findings"}
    assert all(set(one) == {"check", "state", "message", "hint"} for one in told["findings"])
    assert {"Python", "libraries", "torch", "GPU", "disk", "med.toml", "data sets", "runs", "cache"} <= set(checks)
    assert "network" not in checks
    assert (told["ok"], done.returncode) == (True, 0), done.stdout


def test_a_broken_torch_is_a_finding(project, no_torch):
    done = doctor(project, PYTHONPATH=no_torch)
    assert done.returncode == 5
    assert "✗ torch" in done.stdout
    assert "ImportError: libcudart.so.13 is not here" in done.stdout
    assert "pip install --force-reinstall 'torch" in done.stdout
    assert "errors: 1" in done.stdout


def test_a_broken_med_toml_does_not_stop_it(project, no_torch):
    (project / "med.toml").write_text("[train\n", "utf-8")
    done = doctor(project, "--json", PYTHONPATH=no_torch, MED_TRIAN="1")
    told = json.loads(done.stdout)["findings"]
    wrong = {one["check"]: one["message"] for one in told if one["state"] == "error"}
    assert "med.toml" in wrong["med.toml"]
    assert wrong["variables"] == "the environment variable MED_TRIAN is not known"


def test_signs_are_plain_where_the_output_has_no_others(project, no_torch):
    done = doctor(project, PYTHONPATH=no_torch, PYTHONIOENCODING="ascii")
    assert "x torch" in done.stdout
    assert "texts are written as ascii" in done.stdout


def test_other_commands_still_refuse_a_broken_med_toml(med, project):
    (project / "med.toml").write_text("[trian]\n", "utf-8")
    assert med("runs", "list").exit_code == 2


def finding(check, state):
    return Finding(check=check, state=state, message="")


@pytest.mark.parametrize(
    ("states", "strict", "code"),
    [
        ([("Python", "ok")], True, 0),
        ([("disk", "warning"), ("runs", "ok")], False, 0),
        ([("disk", "warning"), ("runs", "error")], True, 5),
        ([("disk", "warning"), ("runs", "error")], False, 4),
        ([("med.toml", "error"), ("data sets", "error")], False, 2),
        ([("data sets", "error")], False, 3),
    ],
)
def test_the_first_error_decides_what_it_ends_with(states, strict, code):
    assert exit_code([finding(*one) for one in states], strict=strict) == code
