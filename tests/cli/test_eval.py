"""`med eval` with the engine's two functions replaced by ones that need no model."""

import json
import math
import sys
from types import ModuleType

import pytest

from tests.evaluation import FakeSpeaker, documents, facts, write_dataset


@pytest.fixture
def engine(monkeypatch):
    """A speaker's and a likelihood's module without torch; holds what they were given."""
    given = {}
    speaker, likelihood = ModuleType("speaker"), ModuleType("likelihood")

    def open_speaker(ref, *, device, report):
        given.update(ref=ref, device=device)
        return FakeSpeaker(silent_on="糖尿病")

    def perplexity(loaded, conversations, report):
        given.update(loaded=loaded, conversations=conversations)
        return math.exp(1.5), 1234, [1.0, 1.5, 2.0]

    speaker.open_speaker = open_speaker
    likelihood.perplexity = perplexity
    monkeypatch.setitem(sys.modules, "medcli.engine.speaker", speaker)
    monkeypatch.setitem(sys.modules, "medcli.engine.likelihood", likelihood)
    return given


def test_prints_a_table_and_where_the_answers_are(med, project, engine):
    write_dataset("facts", test=facts())
    result = med("eval", "med-tiny", "--dataset", "facts", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line}
    assert rows["exact"][0] == "66.67"
    assert rows["exact"][-2:] == ["3", "answers"]
    assert rows["perplexity"][0] == "4.48"
    assert rows["perplexity"][-2:] == ["1,234", "tokens"]
    assert "eval/med-tiny-facts-test.json" in result.stdout
    assert "仅供学习与研究" in result.stderr
    assert "仅供学习与研究" not in result.stdout
    assert "1 of 3 answers are empty" in result.stderr
    assert engine["ref"].base == "med-tiny"
    assert engine["device"] == "cpu"
    assert engine["loaded"] == FakeSpeaker.loaded
    assert len(engine["conversations"]) == 3


def test_json_is_all_there_is_on_stdout(med, project, engine):
    write_dataset("facts", test=facts())
    result = med("eval", "med-tiny", "--dataset", "facts", "--json", "--quiet")
    shown = json.loads(result.stdout)
    assert shown["scores"][0] == pytest.approx(
        {"metric": "exact", "value": 2 / 3, "count": 3, "low": shown["scores"][0]["low"], "high": 1.0}
    )
    assert shown["empty"] == 1
    assert json.loads((project / shown["file"]).read_text("utf-8"))["scores"] == shown["scores"]
    assert result.stderr == ""


def test_plan_answers_nothing(med, project, engine):
    write_dataset("facts", test=facts())
    (project / "med.toml").write_text("[eval]\nmax_tokens = 64\n")
    result = med("eval", "med-tiny", "--dataset", "facts", "--limit", "2", "--plan")
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line}
    assert rows["max_tokens"] == ["64", "med.toml"]
    assert rows["limit"] == ["2", "flag"]
    assert "would answer 2 conversations" in result.stdout
    assert not engine
    assert not (project / "eval").exists()


def test_plan_as_json(med, project):
    write_dataset("facts", test=facts())
    plan = json.loads(med("eval", "med-tiny", "--dataset", "facts", "--plan", "--json").stdout)
    assert plan["answers"] == 3
    assert plan["settings"]["dataset"] == {"value": "facts", "origin": "flag"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["med-tiny"], 2, "--dataset is missing"),
        (["med-tiny", "--dataset", "fact"], 2, "did you mean 'facts'?"),
        (["med-tiny", "--dataset", "facts", "--split", "tset"], 2, "did you mean 'test'?"),
        (["med-tiny", "--dataset", "facts", "--split", "valid"], 3, "no conversation in valid"),
        (["med-tiny", "--dataset", "facts", "--limit", "0"], 2, "--limit: 0 is too small"),
        (["med-tiny", "--dataset", "texts"], 3, "needs conversations"),
        (["med-tyni", "--dataset", "facts"], 4, "did you mean 'med-tiny'?"),
        (["med-tyni", "--dataset", "facts", "--plan"], 4, "did you mean 'med-tiny'?"),
        (["--dataset", "facts"], 2, "MODEL"),
    ],
)
def test_errors_say_how_to_mend_them(med, project, engine, words, code, said):
    write_dataset("facts", test=facts())
    write_dataset("texts", kind="document", test=documents())
    result = med("eval", *words)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""
    assert not (project / "eval").exists()


def test_help_names_every_option(med):
    shown = med("eval", "--help").stdout
    for flag in (
        "--dataset",
        "--split",
        "--limit",
        "--max-tokens",
        "--temperature",
        "--top-p",
        "--seed",
        "--system",
    ):
        assert flag in shown
    for flag in ("--device", "--json", "--plan"):
        assert flag in shown
