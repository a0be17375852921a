"""`med data show` and `med data stats` as they are typed."""

import json

import pytest
from rich.cells import cell_len

from tests.conftest import RAW
from tests.steps.test_data_card import RECORDS, Page
from tests.steps.test_data_stats import written


@pytest.fixture
def built(med):
    assert med("data", "build", "cmedqa2", "--raw", RAW / "cmedqa2").exit_code == 0
    return med


@pytest.fixture
def clinic(med, project):
    """A set with long names in every table, looked at through 80 columns."""
    reason = "回答里有广告、推销药品或者要求病人加私人联系方式，因此这一行没有保留下来，请到原文件里查看"
    written(
        project / "data" / "clinic", RECORDS, [("门诊.csv", 3, reason, "加我"), ("门诊.csv", 4, "empty answer", "x")]
    )
    return med


def test_show(built):
    result = built("data", "show", "cmedqa2", 2)
    assert result.exit_code == 0
    assert "user\n" in result.stdout
    row = json.loads(built("data", "show", "cmedqa2", "--split", "test", "--json").stdout)
    assert row["id"] == "107-207"


def test_show_preference_and_document(med):
    med("data", "build", RAW / "preference/dpo.jsonl")
    assert "rejected\n  不用管它。" in med("data", "show", "dpo").stdout
    med("data", "build", RAW / "text/paragraphs.txt")
    assert "第1节" in med("data", "show", "paragraphs").stdout


def test_stats(built):
    result = built("data", "stats", "cmedqa2")
    assert "read 13 = kept 10 + refused 3" in result.stdout
    assert "question without an answer" in result.stdout
    assert "licence: research only; commercial use: no" in result.stdout
    figures = json.loads(built("data", "stats", "cmedqa2", "--json").stdout)
    assert figures["splits"]["train"]["turns"] == {"1": 7}
    assert figures["splits"]["train"]["characters"]["100"] >= figures["splits"]["train"]["characters"]["50"]
    assert figures["examples"]["question without an answer"][0]["file"]


def test_stats_fit_80_columns_with_han_text_and_are_plain(clinic, tiny_folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = clinic("data", "stats", "clinic", "--tokens", tiny_folder, "--max-length", 60)
    assert result.exit_code == 0
    assert [line for line in result.stdout.splitlines() if cell_len(line) > 80] == []
    assert "\x1b" not in result.stdout
    for said in ("内科", "masked: mobile number", "answers in a record", "characters: half", "tokens: half"):
        assert said in result.stdout
    assert "keep no whole answer" in result.stdout


def test_bars_are_as_long_as_their_counts(clinic):
    lines = clinic("data", "stats", "clinic").stdout.splitlines()
    start = lines.index("answers in a record") + 1
    bars = {int(count): bar.count("█") for _, count, bar in (line.split() for line in lines[start : start + 3])}
    assert bars == {15: max(bars.values()), 13: pytest.approx(max(bars.values()) * 13 / 15, abs=1)}


def test_stats_write_the_card_where_they_are_told(clinic, project, tiny_folder):
    result = clinic("data", "stats", "clinic", "--tokens", tiny_folder, "--html", "cards/clinic.html", "--json")
    assert json.loads(result.stdout)["splits"]["train"]["tokens"]["100"]
    page = Page((project / "cards" / "clinic.html").read_text("utf-8"))
    assert f"tokens of {tiny_folder.name}" in page.text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--max-length", 0), 2, "max-length"),
        (("--tokens", "no-such-model"), 4, "no model or run is called"),
        (("--html", "data"), 5, "data"),
    ],
)
def test_what_cannot_be_is_said(clinic, words, code, said):
    result = clinic("data", "stats", "clinic", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_only_conversations_are_cut(med):
    med("data", "build", RAW / "text/paragraphs.txt")
    result = med("data", "stats", "paragraphs", "--max-length", 9)
    assert result.exit_code == 2
    assert "leave out --max-length" in result.stderr
