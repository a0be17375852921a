"""`med data` as it is typed: results on stdout, messages on stderr, exit codes."""

import json

import pytest

from tests.conftest import RAW


@pytest.fixture
def built(med):
    assert med("data", "build", "cmedqa2", "--raw", RAW / "cmedqa2").exit_code == 0
    return med


def test_build_says_what_was_kept_and_why_not(med):
    result = med("data", "build", "cmedqa2", "--raw", RAW / "cmedqa2")
    assert result.exit_code == 0
    assert "kept 10 of 13 rows (train 7, valid 2, test 1)" in result.stdout
    assert "refused 1: question without an answer" in result.stdout
    assert "refused.jsonl" in result.stdout


def test_build_again_is_quick_and_says_so(built):
    result = built("data", "build", "cmedqa2", "--raw", RAW / "cmedqa2")
    assert "nothing to do" in result.stderr


def test_build_json(med):
    result = med("data", "build", RAW / "alpaca/alpaca.json", "--name", "mine", "--json")
    assert json.loads(result.stdout)["counts"]["read"] == 10


def test_plan_builds_nothing(med, project):
    result = med("data", "build", RAW / "alpaca/alpaca.json", "--plan", "--seed", 3)
    assert result.exit_code == 0
    assert "importer alpaca" in result.stdout
    assert "flag" in result.stdout
    assert not (project / "data").exists()
    shown = med("data", "build", RAW / "alpaca/alpaca.json", "--plan", "--json")
    assert {"setting": "seed", "value": 42, "origin": "default"} in json.loads(shown.stdout)


def test_settings_come_from_the_environment_and_med_toml(med, project, monkeypatch):
    (project / "med.toml").write_text('[data.build]\nname = "fromfile"\n', "utf-8")
    monkeypatch.setenv("MED_DATA_BUILD_LIMIT", "3")
    result = med("data", "build", RAW / "pairs/wenda.txt", "--json")
    manifest = json.loads(result.stdout)
    assert (manifest["name"], manifest["counts"]["read"]) == ("fromfile", 3)


def test_list(built):
    result = built("data", "list")
    assert result.stdout.splitlines()[1].split()[:3] == ["cmedqa2", "conversation", "10"]
    assert "huatuo-llama" in result.stdout
    listed = json.loads(built("data", "list", "--json").stdout)
    assert listed["built"][0]["name"] == "cmedqa2"
    assert {"licence", "url", "commercial"} <= set(listed["known"][0])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "cmedqa"), 2, "did you mean 'cmedqa2'?"),
        (("show", "cmedqa2", 99), 2, "there are: train 7, valid 2, test 1"),
        (("show", "cmedqa2", "--split", "tset"), 2, "did you mean 'test'?"),
        (("stats", "nothing"), 2, "no built data set is called 'nothing'"),
        (("build", "cmedqa3"), 2, "did you mean 'cmedqa'?"),
        (("build", "cepilepsyqa"), 2, "--raw FILE_OR_DIR"),
        (("build", "no/such.json"), 3, "there is no such file or folder"),
        (
            ("build", RAW / "cmedqa2/question.csv"),
            3,
            "no importer fits; its columns are question_id, content",
        ),
        (("build", RAW / "alpaca/alpaca.json", "--importer", "paris"), 2, "did you mean 'pairs'?"),
        (("build", RAW / "alpaca/alpaca.json", "--limit", 0), 2, "too small"),
        (("biuld",), 2, "build"),
    ],
)
def test_messages_and_exit_codes(built, words, code, said):
    result = built("data", *words)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
