"""Free answers: what is asked, how answers are marked, and perplexity."""

import math
from dataclasses import replace

import pytest

from medcli.core import exam_file
from medcli.core.dataset_folder import open_dataset
from medcli.core.errors import DataError, UsageError
from medcli.core.exam import Sitting
from medcli.core.exam_file import Examination
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Conversation, Message
from medcli.core.report import Silent
from medcli.core.speaker import Sampling
from medcli.exams import generation
from tests.evaluation import FACTS, FakeSpeaker, conversation, documents, facts, write_dataset

MEANS = ["exact", "bleu-4", "rouge-1", "rouge-2", "rouge-l", "chrf", "length", "repetition"]
FIGURES = ["corpus-bleu", "distinct-1", "distinct-2"]
NLL = [1.0, 2.0, 2.5]


class Stages(Silent):
    """A report that keeps the names of stages, and what was done of each."""

    def __init__(self):
        self.stages = []

    def stage(self, name, total=None, unit=""):
        self.stages.append([name, total, 0])

    def advance(self, done):
        self.stages[-1][2] = done


class Reads:
    """A reader that finds dialogues as likely as it is told, and keeps what it was given."""

    def __init__(self, nll=NLL):
        self.nll = nll

    def perplexity(self, conversations, report):
        self.given = list(conversations)
        return math.exp(2.2), 90, self.nll


class Says(FakeSpeaker):
    """Says one thing, whatever is asked."""

    def __init__(self, text):
        super().__init__()
        self.text = text

    def _answer(self, question):
        return self.text


def prepared(name="facts", split="test", **settings):
    return generation.prepare(EvalSettings(**settings), open_dataset(name), split)


def sat(paper, speaker=None, reader=None, report=None, **settings):
    return paper.sit(
        Sitting(
            speaker=speaker or FakeSpeaker(),
            reader=reader,
            patient=None,
            judge=None,
            settings=EvalSettings(**settings),
            report=report or Silent(),
        )
    )


def figures(marked, seed=1):
    return {score.metric: score for score in generation.scores(marked, seed)}


@pytest.fixture
def dataset(project):
    return write_dataset("facts", test=facts())


def test_a_perfect_model_is_perfect_by_every_metric(dataset):
    marked = sat(prepared())
    found = figures(marked)
    assert list(found) == [*MEANS, *FIGURES]
    for metric in MEANS[:6] + FIGURES[:1]:
        assert found[metric].value == pytest.approx(1)
    assert found["length"].value == pytest.approx(sum(len(answer) for _, answer in FACTS) / 3)
    assert found["repetition"].value == 0
    assert {score.count for score in found.values()} == {3}
    assert [one.outcome for one in marked] == ["answered"] * 3
    assert [one.detail for one in marked] == [{}] * 3
    assert generation.PRIMARY in found


def test_all_before_the_last_answer_is_asked_by_the_settings(dataset):
    speaker = FakeSpeaker()
    sat(prepared(), speaker, max_tokens=9, temperature=0.5, top_p=0.9, seed=3)
    prompt, sampling = speaker.asked[0]
    assert [message.content for message in prompt] == ["您好", "请讲", "感冒怎么办？"]
    assert sampling == Sampling(temperature=0.5, top_p=0.9, max_tokens=9, seed=3)


def test_an_item_says_what_is_asked_wanted_and_where_it_belongs():
    record = replace(conversation(4, "感冒怎么办？", "多喝水。"), meta={"department": "内科", "title": "感冒"})
    item = generation.item_of(record)
    assert (item.id, item.reference, item.groups, item.asks) == ("c4", "多喝水。", ("内科",), ("感冒怎么办？",))
    assert generation.item_of(conversation(4, "感冒怎么办？", "多喝水。")).groups == ()


def test_what_follows_the_last_answer_is_not_asked():
    record = conversation(0, "感冒怎么办？", "多喝水。")
    after = replace(record, messages=(*record.messages, Message(role="user", content="谢谢")))
    assert generation.item_of(after) == generation.item_of(record)


@pytest.mark.parametrize("roles", [["user"], ["assistant"], ["system", "assistant"], []])
def test_a_conversation_without_question_and_answer_is_an_error(roles):
    messages = tuple(Message(role=role, content="好") for role in roles)
    with pytest.raises(DataError, match="x7"):
        generation.item_of(Conversation(id="x7", messages=messages, source="hand"))


def test_a_system_message_takes_the_place_of_the_old_one(project):
    said = Message(role="system", content="旧")
    old = conversation(0, "感冒怎么办？", FACTS[0][1])
    write_dataset("facts", test=[Conversation(id="c0", messages=(said, *old.messages), source="hand")])
    for system, wanted in [(None, ["旧"]), ("新", ["新"]), ("", [""])]:
        paper = prepared(system=system)
        for messages in (paper.items[0].prompt, paper.conversations[0].messages):
            assert [m.content for m in messages if m.role == "system"] == wanted


def test_blank_answers_are_empty_and_worth_nothing(project):
    write_dataset("facts", test=[conversation(0, "感冒怎么办？", " 多 喝\n水 "), *facts()[1:]])
    marked = sat(prepared(), Says(" \n"))
    assert {one.outcome for one in marked} == {"empty"}
    assert {one.answer for one in marked} == {" \n"}
    assert {value for one in marked for value in one.values.values()} == {0.0}
    assert {score.value for score in generation.scores(marked, 1)} == {0.0}


def test_one_silence_is_one_empty_answer(dataset):
    marked = sat(prepared(), FakeSpeaker(silent_on="高血压"))
    assert [one.outcome for one in marked] == ["answered", "empty", "answered"]
    assert figures(marked)["exact"].value == pytest.approx(2 / 3)


def test_limit(dataset):
    assert [item.id for item in prepared(limit=2).items] == ["c0", "c1"]


def test_nothing_to_answer_is_an_error(project):
    write_dataset("facts", train=facts())
    with pytest.raises(DataError, match="no conversation in test or valid"):
        prepared()
    with pytest.raises(DataError, match="no conversation in valid"):
        generation.prepare(EvalSettings(split="valid"), open_dataset("facts"), "valid")


def test_other_records_than_conversations_are_an_error(project):
    write_dataset("facts", kind="document", test=documents())
    with pytest.raises(DataError, match="holds documents, and `med eval` needs conversations"):
        prepared()


def test_a_record_that_belies_the_manifest_is_an_error(project):
    write_dataset("facts", test=documents())
    with pytest.raises(DataError, match="d0"):
        prepared()


def test_no_data_set_is_an_error():
    with pytest.raises(UsageError, match="data set"):
        generation.prepare(EvalSettings(), None, "")


def test_a_reader_adds_the_perplexity_of_the_dialogues(dataset):
    paper, reader = prepared(system="新"), Reads()
    found = figures(sat(paper, reader=reader))
    assert reader.given == list(paper.conversations)
    assert list(found) == [*MEANS, *FIGURES, "perplexity"]
    assert found["perplexity"] == generation.perplexity_score(math.exp(2.2), 90, NLL, 1)


def test_dialogues_that_a_reader_leaves_out_spoil_nothing(dataset):
    found = figures(sat(prepared(), reader=Reads([1.0, 2.0])))
    assert found["perplexity"] == generation.perplexity_score(math.exp(2.2), 90, [1.0, 2.0], 1)


def test_perplexity_of_all_is_not_said_of_some(dataset):
    marked = sat(prepared(), reader=Reads())
    assert "perplexity" not in figures(marked[:2]) | figures(marked[1:])


def test_scores_are_the_same_from_the_file(dataset, tmp_path):
    marked = sat(prepared(), FakeSpeaker(silent_on="高血压"), Reads())
    scores = generation.scores(marked, 1)
    outcome = Examination(
        model="tiny",
        exam="facts-test",
        kind="generation",
        primary=generation.PRIMARY,
        dataset={},
        settings={},
        versions={},
        scores=tuple(scores),
        groups=(),
        marked=tuple(marked),
        file=tmp_path / "facts-test.json",
    )
    exam_file.write(outcome)
    kept = exam_file.read(outcome.file)
    assert generation.scores(kept.marked, 1) == scores == list(kept.scores)


def test_perplexity_lies_in_its_interval():
    score = generation.perplexity_score(math.exp(2.9), 400, [1.0, 2.0, 3.0, 2.5], seed=1)
    assert score.low < score.value < score.high
    assert (score.metric, score.count) == ("perplexity", 400)


def test_every_stage_is_told_and_ends(dataset):
    report = Stages()
    sat(prepared(), report=report)
    assert report.stages == [["answering", 3, 3], ["marking", len(generation.METRICS), len(generation.METRICS)]]


def test_no_answers_have_no_scores():
    assert generation.scores([], 1) == []
