"""Whoever is named sits the exam: a model that is here, a service, a file of answers; each is opened once."""

import gc
import json
import os
import weakref

import pytest

from medcli.core.answers_file import read_answers
from medcli.core.errors import DataError, ModelError, UsageError
from medcli.core.exam import Item
from medcli.core.exam_settings import EvalSettings
from medcli.core.journal import Journal
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.speaker import Sampling
from medcli.steps.candidates import (
    Speechless,
    check_reference,
    describe,
    note_refusals,
    open_candidate,
    open_helper,
    remembering,
)
from tests.building import Notes
from tests.engine.chat_service import Fault, chat_service, last

SETTINGS = EvalSettings(device="cpu")
SHORT = Sampling(max_tokens=4)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("MED_API_KEY", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def user(text):
    return (Message(role="user", content=text),)


def asked(speaker, *texts):
    return speaker.replies([user(text) for text in texts], SHORT, lambda done: None)


def test_a_model_that_is_here_speaks_and_reads(tiny_folder, project):
    candidate = open_candidate(str(tiny_folder), SETTINGS, Silent())
    [[first, second]] = candidate.reader.likelihoods([user("感冒怎么办？")], [("A", "B")], lambda done: None)
    assert first.total < 0
    assert second.total < 0
    assert len(asked(candidate.speaker, "感冒怎么办？", "头疼")) == 2
    json.dumps(candidate.described)


def test_who_judges_too_is_loaded_once_and_let_go_in_the_end(tiny_folder, project):
    candidate = open_candidate(str(tiny_folder), SETTINGS, Silent())
    judge = open_helper(str(tiny_folder), SETTINGS, Silent())
    assert judge is candidate.speaker
    gone = weakref.ref(judge)
    del candidate, judge
    gc.collect()
    assert gone() is None


def test_a_service_speaks_and_does_not_read(project):
    with chat_service(lambda body: f"答{last(body)}") as service:
        ref = f"{service.url}#m"
        candidate = open_candidate(ref, SETTINGS, Silent())
        assert candidate.reader is None
        assert asked(candidate.speaker, "a", "b") == ["答a", "答b"]
        assert open_helper(ref, SETTINGS, Silent()) is candidate.speaker
        assert open_helper(f"{service.url}#other", SETTINGS, Silent()) is not candidate.speaker
    assert candidate.described == {"service": service.url, "model": "m"}


def test_rules_are_nobody():
    assert open_helper("rules", SETTINGS, Silent()) is None


@pytest.mark.parametrize("ref", ["http://localhost:1/v1", "https://a:b@host/v1#m"])
def test_a_service_that_is_not_well_named_is_refused(ref):
    for opened in (open_candidate, open_helper):
        with pytest.raises(UsageError):
            opened(ref, SETTINGS, Silent())


def test_a_model_that_nobody_knows_is_refused(project):
    with pytest.raises(ModelError, match="no model or run"):
        open_candidate("nobody", SETTINGS, Silent())
    with pytest.raises(ModelError, match="no model or run"):
        check_reference("nobody", [])


def test_a_reward_model_does_not_speak(project):
    folder = project / "judge"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}', "utf-8")
    with pytest.raises(DataError, match="is a reward model") as error:
        open_helper("judge", SETTINGS, Silent())
    assert "med eval judge --dataset PAIRS" in error.value.hint
    with pytest.raises(DataError, match="is a reward model"):
        check_reference("judge", [])
    with pytest.raises(DataError, match="is a reward model"):
        asked(Speechless("judge"), "a")
    with pytest.raises(DataError, match="is a reward model"):
        next(Speechless("judge").reply(user("a"), SHORT))


def test_a_model_is_told_from_what_it_was_before(project):
    model, adapter = project / "model", project / "adapter"
    for folder, weights in ((model, "model.safetensors"), (adapter, "adapter_model.safetensors")):
        folder.mkdir()
        (folder / weights).write_bytes(b"weights")
        (folder / "README.md").write_text("text", "utf-8")
    (model / "config.json").write_text("{}", "utf-8")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}), "utf-8")
    before = describe("adapter")
    (adapter / "README.md").write_text("other text", "utf-8")
    assert describe("adapter") == before
    assert describe("adapter") != describe("model")
    weights = adapter / "adapter_model.safetensors"
    os.utime(weights, ns=(weights.stat().st_atime_ns, weights.stat().st_mtime_ns + 1))
    assert describe("adapter") != before
    retrained = describe("adapter")
    (model / "config.json").write_text("{ }", "utf-8")
    assert describe("adapter") != retrained
    assert describe("some/where") == {"base": "some/where", "adapters": [], "template": None}
    assert describe("rules") != describe("med-tiny")


def test_answers_of_a_service_are_kept_and_those_of_a_file_are_there(project):
    def script(body):
        return Fault(400, "filtered") if last(body) == "b" else "好"

    report = Notes()
    with chat_service(script) as service, Journal.open(project / "j", {}, Silent()) as journal:
        speaker = open_candidate(f"{service.url}#m", SETTINGS, report).speaker
        for _ in range(2):
            assert asked(remembering(speaker, journal, "candidate"), "a", "b") == ["好", ""]
        assert sorted(last(body) for body in service.bodies) in (["a", "b"], ["a", "b", "你好"])
        note_refusals(speaker, report)
        assert report.notes[-1].startswith("1 prompts were not answered, and count as empty answers:")
        items = [Item(id=id, prompt=(), reference="A") for id in ("1", "2")]  # as of an exam of which letters are all
        (project / "a.csv").write_text("id,answer\n2,B\n1,A\n", "utf-8")
        of_file = read_answers(project / "a.csv").speaker_for(items, Silent())
        assert remembering(of_file, journal, "candidate").replies([(), ()], SHORT, lambda done: None) == ["A", "B"]
