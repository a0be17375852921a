"""What the gates tidy and what they refuse."""

from collections import Counter

import pytest

from medcli.core.build_settings import BuildSettings
from medcli.core.record import Conversation, Document, Message, Preference
from medcli.gates import duplicates, normalise, structure


def opened(module, **settings):
    """A gate's check."""
    return module.gate(BuildSettings(**settings), Counter())


def through(record):
    """What normalise and structure make of a record."""
    return opened(structure)(opened(normalise)(record))


def dialogue(*contents, roles=("user", "assistant") * 5, id="a"):
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, contents, strict=False))
    return Conversation(id=id, messages=messages, source="test")


def preference(prompt="头疼", chosen="休息", rejected="不管"):
    return Preference(
        id="a",
        prompt=(Message(role="user", content=prompt),),
        chosen=chosen,
        rejected=rejected,
        source="test",
    )


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
        (Document(id="a", text=" \n", source="test"), "empty text"),
    ],
)
def test_refuses(record, reason):
    assert through(record) == reason


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
