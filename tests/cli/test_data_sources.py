"""`med data list` and `med data info`: what is here, what is known, and how to get it."""

import json

import pytest
from rich.cells import cell_len

from tests.conftest import RAW
from tests.steps.hub_server import ID, serving


@pytest.fixture
def built(med):
    assert med("data", "build", "cmedqa2", "--raw", RAW / "cmedqa2").exit_code == 0
    return med


def test_list_shows_built_sets_first_and_fits_a_narrow_terminal(built, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = built("data", "list").stdout.splitlines()
    assert lines[0].split() == ["built", "kind", "records", "licence"]
    assert lines[1].split()[:3] == ["cmedqa2", "conversation", "10"]
    assert max(map(cell_len, lines)) <= 80
    names = [line.split()[0] for line in lines if line.strip()]
    assert {"conversations", "preferences", "documents", "questions"} <= set(names)
    assert names.count("cmedqa2") == 1
    toyhom = next(line for line in lines if line.startswith("toyhom"))
    assert toyhom.split() == ["toyhom", "zh", "792,099", "rows", "MIT", "yes"]


def test_list_of_those_that_have_a_word(built):
    shown = built("data", "list", "nc-sa").stdout
    assert "ceval" in shown
    assert "cmmlu" in shown
    assert "toyhom" not in shown
    listed = json.loads(built("data", "list", "CMEDQA2", "--json").stdout)
    assert [item["name"] for item in listed["built"]] == ["cmedqa2"]
    assert {item["name"] for item in listed["known"]} >= {"cmedqa2", "cmedqa2-pairs"}
    assert {"hub", "urls", "licence", "commercial", "size"} <= set(listed["known"][0])
    nothing = built("data", "list", "no-such-thing")
    assert (nothing.exit_code, nothing.stdout) == (2, "")
    assert "med data list" in nothing.stderr


def test_info_says_how_to_get_a_set(med):
    shown = med("data", "info", "belle-0.5m").stdout
    for text in (
        "GPL-3.0, research only",
        "not allowed",
        "Hugging Face: BelleGroup/train_0.5M_CN",
        "HF_ENDPOINT=https://hf-mirror.com med data build belle-0.5m",
        "med data build belle-0.5m --hub modelscope",
        "med data build belle-0.5m --raw DIR",
    ):
        assert text in shown
    by_hand = json.loads(med("data", "info", "meddialog", "--json").stdout)
    assert by_hand["commands"] == ["med data build meddialog --raw DIR"]
    assert by_hand["built"] is by_hand["downloaded"] is None
    assert json.loads(med("data", "info", "knowledge", "--json").stdout)["commands"] == ["med data build knowledge"]


def test_info_of_what_is_built(built):
    shown = built("data", "info", "cmedqa2").stdout
    assert "kept 10 of 13 rows (train 7, valid 2, test 1)" in shown
    assert "108,000 questions, 203,569 answers" in shown
    assert json.loads(built("data", "info", "cmedqa2", "--json").stdout)["built"]["counts"]["kept"] == 10
    built("data", "build", RAW / "alpaca/alpaca.json", "--name", "mine")
    assert "conversations of your own" in built("data", "info", "mine").stdout


def test_info_of_an_unknown_name(med):
    result = med("data", "info", "cmedqa3")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean 'cmedqa" in result.stderr


def test_a_set_is_downloaded_and_built_by_one_command(med, project, monkeypatch):
    """From the hub's list of files to a built set; `--plan` before it loads nothing."""
    monkeypatch.setenv("no_proxy", "*")
    (project / "dataset_info.json").write_text(json.dumps({"mine": {"hf_hub_url": ID}}), "utf-8")
    with serving(files={"train.json": (RAW / "alpaca/alpaca.json").read_bytes()}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        plan = json.loads(med("data", "build", "mine", "--plan", "--json").stdout)
        assert "1 of 1 files, 2.8 kB" in [row["value"] for row in plan if row["setting"] == "would download"]
        assert hub.loads() == []
        result = med("data", "build", "mine")
        assert result.exit_code == 0, result.stderr
        assert "downloading someone--records" in result.stderr
        assert "licence cc0-1.0" in result.stderr
        again = med("data", "build", "mine", "--hub", "huggingface")
        assert "nothing to do" in again.stderr
        assert len(hub.loads()) == 1
        refused = med("data", "build", "mine", "--hub", "modelscope")
    assert refused.exit_code == 2
    assert "cannot be downloaded from modelscope" in refused.stderr
    assert "--hub huggingface" in refused.stderr
