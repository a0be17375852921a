"""What the gates tidy and what they refuse."""

import pytest

from medcli.core.record import Question
from medcli.gates import duplicates, normalise, structure
from tests.gates.records import dialogue, document, opened, preference


def through(record):
    """What normalise and structure make of a record."""
    return opened(structure)(opened(normalise)(record))


def exam(stem):
    return Question(id="a", stem=stem, choices=("是", "否"), answer="A", subject="内科", source="test")


NOTHING = ["无", "无。", "暂无", "没有", "null", "NULL", "N/A", "none", "……", "。", "？！", "暂无回答", " - ", "（无）"]


def test_tidies_text():
    record = through(dialogue(" 头疼\r\n三天\0 \ufeff", "多\xa0休息\u3000\ud800 "))
    assert [m.content for m in record.messages] == ["头疼\n三天", "多 休息"]


def test_drops_an_empty_system_message():
    record = through(dialogue(" ", "问", "答", roles=("system", "user", "assistant")))
    assert [m.role for m in record.messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (dialogue(), "no turns"),
        (dialogue("", "答"), "empty question"),
        (dialogue("问", " \0 "), "empty answer"),
        (dialogue("问"), "does not end with an answer"),
        (dialogue("问", "答", "再问"), "does not end with an answer"),
        (
            dialogue("答", "问", roles=("assistant", "user")),
            "roles do not take turns, beginning with the user",
        ),
        (
            dialogue("问", "问", "答", roles=("user", "user", "assistant")),
            "roles do not take turns, beginning with the user",
        ),
        (
            dialogue("头疼  怎么办", "头疼 怎么办\n"),
            "the answer repeats the question",
        ),  # MedDialog's builder did this
        (preference(chosen=""), "empty answer"),
        (preference(rejected=" 休息 "), "the better and the worse answer are the same"),
        (preference(prompt=""), "empty question"),
        (document(" \n"), "empty text"),
        (document("……。"), "empty text"),
        *((dialogue("有副作用吗？", text), "empty answer") for text in NOTHING),
        *((dialogue(text, "多休息"), "empty question") for text in NOTHING),
        (dialogue("疼", "几天了？", "三天", "null"), "empty answer"),
        (dialogue("疼", "几天了？", "三天", "？？"), "empty answer"),
        (preference(prompt="无"), "empty question"),
        (preference(chosen="暂无。"), "empty answer"),
        (exam("……"), "empty question"),
    ],
)
def test_refuses(record, reason):
    assert through(record) == reason


@pytest.mark.parametrize(
    "record",
    [
        *(
            dialogue("有副作用吗？", text)
            for text in ("是的。", "否", "A", "B。", "√", "没有副作用", "无需手术", "10", "不", "NA受体")
        ),
        dialogue("疼", "有过敏史吗？", "没有", "发烧吗？", "无。", "建议复查"),
        dialogue("疼", "有过敏史吗？", "？？", "没有。", "好的", "不客气"),
        preference(rejected="无"),
        exam("无痛性血尿首先考虑？"),
    ],
)
def test_keeps_short_answers_that_mean_something(record):
    assert through(record) == record


def test_duplicates_keeps_the_first():
    gate = opened(duplicates)
    first = dialogue("头疼怎么办？", "休息")
    assert gate(first) is first
    assert gate(dialogue("头疼 怎么办？", "休息\n", id="b")) == "exact duplicate"
    other = dialogue("头疼怎么办？", "看医生")
    assert gate(other) is other


def test_each_build_has_a_memory_of_its_own():
    record = dialogue("问", "答")
    assert opened(duplicates)(record) is record
    assert opened(duplicates)(record) is record
