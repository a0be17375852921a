"""Data sets, knowledge bases and the cache: what is missing or changed is told."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from medcli.steps.doctor_cache import cache_findings
from medcli.steps.doctor_data import base_findings, dataset_findings
from tests.conftest import RAW


@pytest.fixture
def few(built, project):
    built("few", RAW / "alpaca", "--valid", 0.1)
    return project / "data" / "few"


@pytest.fixture
def base(med, project):
    pytest.importorskip("bm25s")
    assert med("kb", "build", "knowledge", "--name", "knowledge").exit_code == 0
    return project / "data" / "kb" / "knowledge"


def test_an_empty_project_is_well(project):
    assert [one.state for one in (*dataset_findings(), *base_findings(), *cache_findings())] == ["ok"] * 3


def test_a_built_set_is_well(few):
    assert [one.message for one in dataset_findings()] == ["built and unchanged: 1"]


def test_a_set_that_was_changed_or_lost_a_file_is_told(few):
    with (few / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write("{}\n")
    (few / "valid.jsonl").unlink()
    found = list(dataset_findings())
    assert [one.message for one in found] == [
        f"{few / 'train.jsonl'} is not as it was built",
        f"{few / 'valid.jsonl'} is missing",
    ]
    assert found[0].hint == "build it again: med data build few --raw DIR"


@pytest.mark.parametrize("text", ["broken = = 1", "kind = 'conversation'", "files = 3\ncounts = 4"])
def test_a_manifest_that_says_nothing_is_told(few, text):
    (few / "manifest.toml").write_text(text, "utf-8")
    (finding,) = dataset_findings()
    assert finding.state == "error"
    assert "manifest.toml" in finding.message


def test_a_set_without_a_manifest_is_told_and_foreign_folders_are_not(few, project):
    (few / "manifest.toml").unlink()
    (project / "data" / "raw").mkdir()
    (project / "data" / "raw" / "mine.csv").write_text("a,b\n", "utf-8")
    first, second = dataset_findings()
    assert (first.state, second.state) == ("ok", "warning")
    assert "few has no manifest.toml" in second.message


def test_a_knowledge_base_is_well_until_its_passages_are_cut(base):
    assert [one.message for one in base_findings()] == ["built and whole: 1"]
    passages = base / "passages.jsonl"
    passages.write_bytes(passages.read_bytes()[:-5])
    (finding,) = base_findings()
    assert (finding.state, finding.message) == ("error", f"{passages} is not as it was built")


def test_a_knowledge_base_without_its_index_is_told(base):
    shutil.rmtree(base / "index")
    (finding,) = base_findings()
    assert finding.hint == "build it again: med kb build SOURCE --name knowledge"


def test_a_damaged_med_tiny_is_told(project, tmp_path):
    folder = tmp_path / "cache" / "med-tiny-abc"
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}", "utf-8")
    save_file({"a": torch.zeros(4)}, folder / "model.safetensors")
    assert [one.state for one in cache_findings()] == ["ok"]
    (folder / "model.safetensors").write_bytes(b"cut")
    (finding,) = cache_findings()
    assert finding.hint.endswith("med clean med-tiny")


def test_a_download_that_has_not_ended_is_told(project, tmp_path):
    folder = tmp_path / "cache" / "downloads" / "cmexam"
    folder.mkdir(parents=True)
    (folder / ".downloaded.json").write_text(json.dumps({"files": []}), "utf-8")
    (folder / "test.csv.part").write_text("a", "utf-8")
    (finding,) = cache_findings()
    assert finding.hint.startswith("go on with it: med data build cmexam\n")
