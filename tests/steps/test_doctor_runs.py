"""Runs that were killed, stopped or damaged are told, each with what to do; runs at work and whole ones are not."""

import os

import pytest
import torch
from safetensors.torch import save_file

from medcli.core.run_folder import RunFolder
from medcli.steps.doctor_runs import run_findings

TABLE = {
    "run": {"method": "lora", "status": "finished", "started": "2026-01-01T10:00:00+0000", "med": "0.1"},
    "settings": {"run": "one"},
    "origins": {"run": "flag"},
    "model": {"base": "org/model", "adapters": []},
    "data": {"few": {"records": 9, "sha256": "ab"}},
}


@pytest.fixture
def run(project):
    """A finished run with a small adapter."""
    made = RunFolder(project / "runs" / "one")
    made.adapter.mkdir(parents=True)
    made.write_table(TABLE)
    (made.adapter / "adapter_config.json").write_text("{}", "utf-8")
    save_file({"a": torch.zeros(4, 4)}, made.adapter / "adapter_model.safetensors")
    return made


def status(run, word):
    run.write_table({**TABLE, "run": {**TABLE["run"], "status": word}})


def only():
    (finding,) = run_findings()
    return finding


def test_a_whole_run_is_well(run):
    assert only().state == "ok"


def test_a_run_that_was_killed_is_told_with_its_checkpoint(run):
    status(run, "running")
    checkpoint = run.checkpoints / "checkpoint-50"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}", "utf-8")
    found = only()
    assert (found.state, found.message) == ("warning", "the run one was killed")
    assert found.hint.startswith("go on from checkpoint-50: med train lora --resume --run one\n")


def test_a_run_at_work_is_left_alone(run):
    status(run, "running")
    with run.held():
        assert only().state == "ok"


def test_a_run_that_was_stopped_is_told(run):
    status(run, "interrupted")
    assert only().message == "the run one was stopped"
    assert only().hint.startswith("begin it anew, for it has no checkpoint: med train lora --resume --run one\n")


def test_a_cut_file_of_weights_is_told(run):
    file = run.adapter / "adapter_model.safetensors"
    os.truncate(file, file.stat().st_size - 1)
    found = only()
    assert found.state == "error"
    assert found.message.startswith(f"{file} is damaged: it has ")
    assert found.hint == f"train it again: med train lora --from {run.settings_file}"


def test_a_cut_merged_model_is_merged_again(run):
    (run.path / "merged").mkdir()
    (run.path / "merged" / "model.safetensors").write_bytes(b"")
    assert only().hint.endswith("then: med merge one")


def test_weights_that_are_gone_are_told(run):
    (run.adapter / "adapter_config.json").unlink()
    assert only().message == "the run one is finished, but what it has trained is gone"


def test_a_base_that_is_gone_is_told(run, tmp_path):
    run.write_table({**TABLE, "model": {"base": str(tmp_path / "moved"), "adapters": []}})
    assert only().message == f"the run one lies over {tmp_path / 'moved'}, which is gone"


@pytest.mark.parametrize("text", ["broken = = 1", "[run]\nmethod = 'lora'\nstatus = 'finished'\n"])
def test_a_run_toml_that_says_nothing_is_told(run, text):
    run.settings_file.write_text(text, "utf-8")
    found = only()
    assert (found.state, found.hint.endswith(f"rm -r {run.path}")) == ("error", True)
    assert str(run.settings_file) in found.message


def test_a_broken_line_of_figures_is_told_with_its_number(run):
    run.metrics_file.write_text('{"step": 1}\n{"step": 2, "lo\n', "utf-8")
    assert f"{run.metrics_file}:2: " in only().message


def test_what_a_killed_checkpoint_has_left_is_told(run):
    (run.checkpoints / ".part").mkdir(parents=True)
    _, left = run_findings()
    assert (left.state, left.hint) == ("warning", "remove them: med clean leftovers")
