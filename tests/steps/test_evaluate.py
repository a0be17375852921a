"""Evaluation with a speaker that is no model."""

import json

import pytest

from medcli.core.atomic import sha256_of
from medcli.core.errors import DataError, UnknownNameError
from medcli.core.record import Conversation, Message
from medcli.core.speaker import Sampling
from medcli.steps.results import results_file
from tests.building import Notes
from tests.evaluation import FACTS, FakeSpeaker, conversation, documents, examine, facts, write_dataset


def run(speaker=None, report=None, model="tiny", **settings):
    return examine(speaker or FakeSpeaker(), report, model, exam=("facts",), **settings)


def test_a_perfect_model_scores_1_everywhere(project):
    write_dataset("facts", test=facts())
    found = run()
    scores = {score.metric: score for score in found.scores}
    for metric in ("exact", "bleu-4", "rouge-1", "rouge-2", "rouge-l", "chrf"):
        assert scores[metric].value == pytest.approx(1)
        assert scores[metric].count == 3
    assert scores["exact"].low == pytest.approx(0.4385, abs=1e-4)  # three right answers do not prove perfection
    assert found.outcomes == {"answered": 3, "empty": 0, "unparsed": 0, "refused": 0}
    assert (found.kind, found.primary, found.exam) == ("generation", "rouge-l", "facts-test")


def test_all_before_the_last_answer_is_asked(project):
    write_dataset("facts", test=facts())
    speaker = FakeSpeaker()
    run(speaker, max_tokens=9, temperature=0.5, top_p=0.9, seed=3)
    prompt, sampling = speaker.asked[0]
    assert [message.content for message in prompt] == ["您好", "请讲", "感冒怎么办？"]
    assert sampling == Sampling(temperature=0.5, top_p=0.9, max_tokens=9, seed=3)


def test_a_system_message_takes_the_place_of_the_old_one(project):
    said = Message(role="system", content="旧")
    old = conversation(0, "感冒怎么办？", FACTS[0][1])
    write_dataset("facts", test=[Conversation(id="c0", messages=(said, *old.messages), source="hand")])
    speaker = FakeSpeaker()
    run(speaker, system="新")
    assert [m.content for m in speaker.asked[0][0] if m.role == "system"] == ["新"]


def test_the_file_holds_every_answer_and_is_the_same_each_time(project):
    folder = write_dataset("facts", test=facts())
    file = run(FakeSpeaker(silent_on="高血压")).file
    kept = file.read_bytes()
    table = json.loads(kept)
    assert table["dataset"] == {
        "name": "facts",
        "split": "test",
        "sha256": sha256_of(folder / "test.jsonl"),
        "items": table["dataset"]["items"],
        "answered": 3,
    }
    assert table["settings"]["max_tokens"] == 256
    assert set(table["versions"]) >= {"med", "python", "torch"}
    assert [row["id"] for row in table["answers"]] == ["c0", "c1", "c2"]
    assert [row["scores"]["exact"] for row in table["answers"]] == [1, 0, 1]
    assert table["answers"][0]["prompt"][-1] == {"role": "user", "content": "感冒怎么办？"}
    assert table["answers"][0]["answer"] == table["answers"][0]["reference"] == FACTS[0][1]
    assert table["scores"][0]["value"] == pytest.approx(2 / 3)
    assert run(FakeSpeaker(silent_on="高血压")).file.read_bytes() == kept


def test_empty_answers_are_counted_and_told(project):
    write_dataset("facts", test=facts())
    report = Notes()
    assert run(FakeSpeaker(silent_on="高血压"), report).outcomes["empty"] == 1
    assert "1 of 3 answers are empty" in report.notes


def test_valid_is_answered_when_there_is_no_test_part(project):
    write_dataset("facts", valid=facts())
    report = Notes()
    assert run(report=report).dataset["split"] == "valid"
    assert "no test part" in report.notes[0]


def test_limit(project):
    write_dataset("facts", test=facts())
    assert len(run(limit=2).marked) == 2


@pytest.mark.parametrize("settings", [{"split": "test"}, {}, {"limit": 0, "split": "valid"}])
def test_nothing_to_answer_is_an_error(project, settings):
    write_dataset("facts", train=facts())
    with pytest.raises(DataError, match="no conversation"):
        run(**settings)


def test_other_records_than_conversations_are_an_error(project):
    write_dataset("facts", kind="document", test=documents())
    with pytest.raises(DataError, match="holds documents, and `med eval` needs conversations"):
        run()


def test_a_record_that_belies_the_manifest_is_an_error(project):
    write_dataset("facts", test=documents())
    with pytest.raises(DataError, match="d0"):
        run()


def test_an_unknown_data_set_is_an_error_with_the_nearest_name(project):
    write_dataset("fact", test=facts())
    with pytest.raises(UnknownNameError) as caught:
        run()
    assert "did you mean 'fact'?" in caught.value.hint


def test_results_lie_in_the_run_or_in_eval(project):
    run_folder = project / "runs" / "first"
    run_folder.mkdir(parents=True)
    (run_folder / "run.toml").write_text("")
    assert results_file("first", "facts-test") == run_folder / "eval" / "facts-test.json"
    assert results_file("runs/first", "facts-test").resolve() == run_folder / "eval" / "facts-test.json"
    assert results_file("Qwen/Qwen3-0.6B", "facts-test").name == "Qwen-Qwen3-0.6B-facts-test.json"
    assert results_file("../models/m", "facts-test") == project / "eval" / "models-m-facts-test.json"


class Stopped:
    """Answers as FakeSpeaker does until it has answered so many prompts, then Ctrl-C."""

    def __init__(self, after):
        self.after, self.asked, self.speaker = after, [], FakeSpeaker()

    def reply(self, messages, sampling):
        return self.speaker.reply(messages, sampling)

    def replies(self, prompts, sampling, advance):
        self.asked += prompts
        if len(self.asked) > self.after:
            raise KeyboardInterrupt
        return self.speaker.replies(prompts, sampling, advance)


def test_a_finished_file_survives_a_failure(project):
    write_dataset("facts", test=facts())
    kept = run().file
    before = kept.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run(Stopped(0))
    assert kept.read_bytes() == before
    run()
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def six_hundred():
    every = enumerate(FACTS * 200)
    return [conversation(number, f"{name}怎么办？第{number}问", said) for number, (name, said) in every]


def test_a_stopped_exam_goes_on_and_asks_nothing_twice(project):
    many = [
        conversation(number, f"{name}怎么办？第{number}问", said) for number, (name, said) in enumerate(FACTS * 200)
    ]
    write_dataset("facts", test=many)
    whole = run(model="whole")
    stopped = Notes()
    with pytest.raises(KeyboardInterrupt):
        run(Stopped(300), stopped)
    assert "the same command goes on" in stopped.notes[-1]
    report, rest = Notes(), Stopped(600)
    found = run(rest, report)
    assert "going on where it was stopped: 256 answers are there already" in report.notes
    assert len(rest.asked) == 600 - 256
    assert found.marked == whole.marked
    assert found.scores == whole.scores


def test_other_settings_begin_anew(project):
    many = [
        conversation(number, f"{name}怎么办？第{number}问", said) for number, (name, said) in enumerate(FACTS * 200)
    ]
    write_dataset("facts", test=many)
    with pytest.raises(KeyboardInterrupt):
        run(Stopped(300))
    report, every = Notes(), Stopped(600)
    run(every, report, temperature=0.5)
    assert len(every.asked) == 600
    assert any("are not used" in note for note in report.notes)
