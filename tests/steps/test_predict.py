"""A file of prompts becomes a file of answers: in order, each once, whatever stops the command in between."""

import io
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medcli.core.errors import DataError, ServiceError, StorageError, UnknownNameError, UsageError
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Message, Preference, Question
from medcli.core.report import Silent
from medcli.steps import evaluate, exam_tasks
from medcli.steps import predict as step
from medcli.steps.predict import Settings, predict
from tests import evaluation
from tests.building import Notes
from tests.predicting import Hasty, predicted, prompts_file

ROOT = Path(__file__).parents[2]
WINDOW = step.WINDOW
FORMS = ["messages", "label-predict", "array"]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """So that forty prompts are several of them."""
    monkeypatch.setattr(step, "WINDOW", 16)


@pytest.fixture
def folder(project):
    prompts_file(project / "in.txt")
    return project


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def whole(folder, **settings):
    """The bytes of an output, and of what is told beside it, that were written in one go."""
    predicted(folder, Hasty(), output=folder / "whole.jsonl", **settings)
    return (folder / "whole.jsonl").read_bytes(), (folder / "whole.jsonl.meta").read_bytes()


def test_answers_stand_in_the_order_of_the_prompts_with_all_about_them(folder):
    found = predicted(folder, Hasty(), system="你是医生", temperature=0.5, seed=3)
    told = rows(folder / "out.jsonl")
    assert [row["id"] for row in told] == list(range(1, 41))
    first = told[0]
    assert list(first) == ["id", "messages", "answer", "reference", "finish", "model", "tokens", "settings"]
    assert first["messages"] == [{"role": "system", "content": "你是医生"}, {"role": "user", "content": "问题0"}]
    assert (first["reference"], first["finish"], first["model"], first["tokens"]) == (None, "stop", "med-tiny", 9)
    assert first["settings"]["temperature"] == 0.5
    assert [row["settings"]["seed"] for row in told] == list(range(3, 43))
    assert all(row["answer"].startswith(f"答{row['messages'][-1]['content']}") for row in told if row["id"] != 3)
    assert (told[2]["finish"], told[2]["answer"], told[2]["problem"]) == ("refused", "", "问题2长 is too long")
    outcome = found.outcome
    assert (outcome.rows, outcome.answered, outcome.cut, outcome.tokens) == (40, 39, 1, 39 * 9)
    assert outcome.refused == ((3, "问题2长 is too long"),)
    assert sorted(path.name for path in folder.iterdir()) == ["in.txt", "out.jsonl", "out.jsonl.meta"]


def test_the_formats_of_others(folder):
    (folder / "in.jsonl").write_text('{"question": "头痛", "answer": "休息"}\n{"question": "发热"}\n', "utf-8")
    asked = {"input": str(folder / "in.jsonl")}
    predicted(folder, Hasty(), output=folder / "a.jsonl", **asked)
    said = [row["answer"] for row in rows(folder / "a.jsonl")]
    predicted(folder, Hasty(), output=folder / "b.txt", format="label-predict", **asked)
    assert rows(folder / "b.txt") == [{"label": "休息", "predict": said[0]}, {"label": "", "predict": said[1]}]
    predicted(folder, Hasty(), output=folder / "c.json", format="array", **asked)
    array = json.loads((folder / "c.json").read_text("utf-8"))
    assert array == [{"Input": "头痛", "Output": said[0]}, {"Input": "发热", "Output": said[1]}]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("stops", "kept"),
    [((0,), 0), ((1,), 1), ((15, 3), 15), ((16,), 16), ((30, 14), 30), ((10, 20, 16), 32), ((39,), 39)],
)
def test_wherever_it_is_stopped_the_file_is_that_of_one_go(folder, form, stops, kept):
    for most in stops:
        with pytest.raises(KeyboardInterrupt):
            predicted(folder, speaker := Hasty(most=most), format=form)
        assert speaker.closed
    report, again = Notes(), Hasty()
    found = predicted(folder, again, report, format=form)
    assert found.outcome.rows == 40
    assert found.asked == 40 - kept
    content, told = whole(folder, format=form)
    assert (folder / "out.jsonl").read_bytes() == content
    assert (folder / "out.jsonl.meta").read_bytes() == told
    assert any("going on" in note for note in report.notes) == (kept > 0)


@pytest.mark.parametrize("form", FORMS)
def test_stopped_after_the_last_answer_it_asks_nobody(folder, form):
    class Stopping(Silent):
        def advance(self, done):
            if done == 40:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predicted(folder, Hasty(), Stopping(), format=form)
    speaker = Hasty()
    assert predicted(folder, speaker, format=form).outcome.rows == 40
    assert speaker.asked == []
    assert (folder / "out.jsonl").read_bytes() == whole(folder, format=form)[0]


def test_an_answer_that_came_early_is_not_lost(folder):
    with pytest.raises(ServiceError):
        predicted(folder, Hasty(most=10, error=ServiceError("gone")))
    shown = rows(folder / "out.jsonl") if (folder / "out.jsonl").exists() else []
    assert len(shown) < 10
    assert predicted(folder, Hasty()).asked == 30


def test_a_service_is_asked_only_what_is_missing(folder):
    with pytest.raises(KeyboardInterrupt):
        predicted(folder, Hasty(most=20), model="http://localhost:1/v1#m")
    again = Hasty()
    predicted(folder, again, model="http://localhost:1/v1#m")
    assert [len(asked) for asked in again.asked] == [12, 8]


@pytest.mark.parametrize("form", FORMS)
def test_wherever_the_file_breaks_off_it_is_mended(folder, form):
    with pytest.raises(KeyboardInterrupt):
        predicted(folder, Hasty(most=33), format=form)
    kept, out = folder / ".out.jsonl.journal.jsonl", folder / "out.jsonl"
    journal, written = kept.read_bytes(), out.read_bytes() if out.exists() else b""
    content, _ = whole(folder, format=form)
    for cut in {0, 1, len(written) // 3, max(0, len(written) - 1), len(written)}:
        for end in (len(journal), len(journal) - 5):  # the last answer in the journal may be broken off too
            kept.write_bytes(journal[:end])
            out.write_bytes(written[:cut])
            predicted(folder, Hasty(), format=form)
            assert out.read_bytes() == content
            (folder / "out.jsonl.meta").unlink()


@pytest.mark.parametrize("form", ["messages", "array"])
def test_killed_at_any_time_it_goes_on(folder, monkeypatch, form):
    monkeypatch.setattr(step, "WINDOW", WINDOW)  # of the process that is killed
    kept = folder / ".out.jsonl.journal.jsonl"
    for answers in (3, 17):
        words = [sys.executable, "-m", "tests.predicting", str(folder), form]
        child = subprocess.Popen(words, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})
        try:
            while not kept.exists() or kept.read_bytes().count(b"\n") <= answers:
                time.sleep(0.002)
                assert child.poll() is None
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    predicted(folder, Hasty(), format=form)
    assert (folder / "out.jsonl").read_bytes() == whole(folder, format=form)[0]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_finished_is_not_asked_again(folder, form):
    first = predicted(folder, Hasty(), format=form)
    report, speaker = Notes(), Hasty()
    again = predicted(folder, speaker, report, format=form)
    assert speaker.asked == []
    assert again.outcome == first.outcome
    assert [note for note in report.notes if "nothing to do" in note]


@pytest.mark.parametrize("most", [5, None], ids=["stopped", "finished"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0.0}, "--temperature was 0.7, now 0.0"),
        ({"stop": ("。",)}, r"--stop was \[\], now \['。'\]"),
        ({"seed": 1, "max_tokens": 9}, "--max-tokens was 512, now 9; --seed was 42, now 1"),
        ({"limit": 7}, "there were 40 prompts, now 7"),
        ({"system": "你是医生"}, "the prompts were others"),
        ({"format": "array"}, "--format was messages, now array"),
        ({"model": "http://localhost:1/v1#m"}, "the model was med-tiny, now http"),
    ],
)
def test_answers_of_another_command_are_not_added_to(folder, most, change, said):
    if most:
        with pytest.raises(KeyboardInterrupt):
            predicted(folder, Hasty(most=most))
    else:
        predicted(folder, Hasty())
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match=said) as error:
        predicted(folder, Hasty(), **change)
    assert "out.jsonl" in error.value.hint
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_model_that_was_trained_again_is_another_one(folder):
    model = folder / "mine"
    model.mkdir()
    (model / "config.json").write_text("{}")
    predicted(folder, Hasty(), model="mine")
    (model / "config.json").write_text('{"a": 1}')
    with pytest.raises(UsageError, match="mine has been changed since"):
        predicted(folder, Hasty(), model="mine")


@pytest.mark.parametrize("content", ["notes of mine\n", '{"id": 1}\n'])
def test_a_file_of_something_else_is_never_touched(folder, content):
    (folder / "out.jsonl").write_text(content)
    with pytest.raises(UsageError, match="is there already"):
        predicted(folder, Hasty())
    assert (folder / "out.jsonl").read_text() == content


def test_a_file_that_was_changed_is_told_and_kept(folder):
    predicted(folder, Hasty())
    with (folder / "out.jsonl").open("a") as file:
        file.write("mine\n")
    with pytest.raises(UsageError, match="has been changed since it was finished"):
        predicted(folder, Hasty())


def test_a_file_that_was_changed_while_it_grew_is_written_anew_when_it_is_away(folder):
    with pytest.raises(KeyboardInterrupt):
        predicted(folder, Hasty(most=30))
    out = folder / "out.jsonl"
    out.write_bytes(out.read_bytes().replace(b"stop", b"Stop"))
    with pytest.raises(UsageError, match="does not hold what this command has written") as error:
        predicted(folder, Hasty())
    assert "move it away" in error.value.hint
    out.unlink()
    assert predicted(folder, Hasty()).asked == 10
    assert out.read_bytes() == whole(folder)[0]


def test_a_folder_in_the_place_of_the_output_is_refused(folder):
    (folder / "out.jsonl").mkdir()
    with pytest.raises(UsageError, match="is no file"):
        predicted(folder, Hasty())


def test_nothing_is_left_when_the_model_does_not_speak(folder):
    with pytest.raises(ServiceError):
        predicted(folder, Hasty(most=0, error=ServiceError("gone")))
    assert [path.name for path in folder.iterdir()] == ["in.txt"]


def test_two_processes_do_not_write_one_file(folder):
    class Meanwhile(Hasty):
        def answers(self, prompts, sampling):
            with pytest.raises(UsageError, match="another process is at work"):
                predicted(folder, Hasty())
            yield from super().answers(prompts, sampling)

    predicted(folder, Meanwhile())
    assert len(rows(folder / "out.jsonl")) == 40


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_costs_nothing_that_was_answered(folder, form):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2500, limits[1]))
    try:
        with pytest.raises(StorageError):
            predicted(folder, Hasty(), format=form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert predicted(folder, Hasty(), format=form).asked < 40
    assert (folder / "out.jsonl").read_bytes() == whole(folder, format=form)[0]


def test_bad_rows_are_told_before_a_model_is_loaded(folder):
    (folder / "in.jsonl").write_text('{"question": "头痛"}\n{"question": ""}\n', "utf-8")
    settings = Settings(model="not/there", input=str(folder / "in.jsonl"), output=folder / "out.jsonl")
    with pytest.raises(DataError, match=r"in.jsonl:2: the question is empty"):
        predict(settings, Silent())


def test_exactly_one_source_is_named(folder):
    for wrong in ({"input": None}, {"dataset": "facts"}, {"split": "test"}):
        with pytest.raises(UsageError):
            predicted(folder, Hasty(), **wrong)
    with pytest.raises(UnknownNameError):
        predicted(folder, Hasty(), input=None, dataset="facts")


@pytest.mark.parametrize("content", ["头痛\n发热\n", '{"text": "头痛"}\n{"text": "发热"}\n', '["头痛", "发热"]'])
def test_a_pipe_holds_lines_or_json(folder, content):
    settings = Settings(model="med-tiny", input="-", output=folder / "out.jsonl")
    predict(settings, Silent(), pipe=io.BytesIO(content.encode("gb18030")), speaker=Hasty())
    assert [row["messages"][0]["content"] for row in rows(folder / "out.jsonl")] == ["头痛", "发热"]
    with pytest.raises(UsageError, match="reads a pipe"):
        predict(settings, Silent(), speaker=Hasty())
    with pytest.raises(DataError, match="stdin:1: the question is empty"):
        predict(settings, Silent(), pipe=io.BytesIO(b'{"text": ""}'), speaker=Hasty())


def test_the_conversations_of_a_data_set(folder):
    evaluation.write_dataset("facts", test=evaluation.facts())
    predicted(folder, Hasty(), input=None, dataset="facts", limit=2)
    told = rows(folder / "out.jsonl")
    assert [(row["id"], row["reference"]) for row in told] == [
        ("c0", "多喝水，注意休息。"),
        ("c1", "低盐饮食，按时服药。"),
    ]
    assert [message["content"] for message in told[0]["messages"]] == ["您好", "请讲", "感冒怎么办？"]


def test_the_questions_of_an_exam(folder):
    question = Question(id="q", stem="感冒怎么办？", choices=("休息", "跑步"), answer="A", subject="内科", source="s")
    evaluation.write_dataset("exam", kind="question", valid=[question])
    predicted(folder, Hasty(), input=None, dataset="exam", system="你是医生")
    [row] = rows(folder / "out.jsonl")
    assert (row["id"], row["reference"]) == ("q", "A")
    assert [message["role"] for message in row["messages"]] == ["system", "user"]
    assert "A. 休息\nB. 跑步" in row["messages"][1]["content"]


def test_the_prompts_of_pairs(folder):
    asked = (Message(role="user", content="头痛"),)
    pair = Preference(id="p", prompt=asked, chosen="休息", rejected="跑步", source="s")
    evaluation.write_dataset("pairs", kind="preference", train=[pair])
    predicted(folder, Hasty(), input=None, dataset="pairs", split="train", system="你是医生")
    [row] = rows(folder / "out.jsonl")
    assert (row["reference"], row["messages"][0]["content"]) == ("休息", "你是医生")
    with pytest.raises(DataError, match="has no pair"):
        predicted(folder, Hasty(), input=None, dataset="pairs", split="test")


def test_documents_ask_nothing(folder):
    evaluation.write_dataset("texts", kind="document", test=evaluation.documents())
    with pytest.raises(DataError, match="documents, which ask nothing"):
        predicted(folder, Hasty(), input=None, dataset="texts")


@pytest.mark.parametrize("form", ["messages", "label-predict"])
def test_an_exam_reads_the_answers(folder, form):
    evaluation.write_dataset("facts", test=evaluation.facts())
    predicted(folder, Hasty(), input=None, dataset="facts", format=form)

    asked = EvalSettings(exam=("facts",), answers=folder / "out.jsonl")
    report = Notes()
    [found] = evaluate.evaluate("out.jsonl", exam_tasks.prepare(asked, report), asked, report)
    said = [row.get("answer") or row["predict"] for row in rows(folder / "out.jsonl")]
    assert [one.answer for one in found.marked] == said
    assert len(said) == 3
    assert not [note for note in report.notes if "no answer to" in note or "another order" in note]


def test_history_is_that_of_a_conversation(folder):
    (folder / "in.jsonl").write_text('{"query": "三天", "history": [["头痛", "多久？"]]}\n', "utf-8")
    predicted(folder, Hasty(), input=str(folder / "in.jsonl"))
    [row] = rows(folder / "out.jsonl")
    turns = [("user", "头痛"), ("assistant", "多久？"), ("user", "三天")]
    assert [(turn["role"], turn["content"]) for turn in row["messages"]] == turns
