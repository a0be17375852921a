"""Refuse a record that is no question and answer: turns out of order, empty parts, an answer that repeats."""

from collections import Counter
from collections.abc import Callable

from medcli.core.build_settings import BuildSettings
from medcli.core.fingerprint import normal
from medcli.core.record import Conversation, Document, Message, Preference, Question, Record

HELP = "turns out of order, empty or meaningless parts, an answer that repeats the question"


def gate(settings: BuildSettings, changed: Counter[str]) -> Callable[[Record], Record | str]:
    """A function from a record to itself, or to the reason why it is refused."""
    return _check


def _check(record: Record) -> Record | str:
    match record:
        case Conversation():
            return _order(record.messages, "assistant") or record
        case Preference():
            return _preference(record) or record
        case Document():
            return record if record.text else "empty text"
        case Question():
            return record if record.stem else "empty question"


def _preference(record: Preference) -> str:
    reason = _order(record.prompt, "user")
    if not reason and not (record.chosen and record.rejected):
        reason = "empty answer"
    if not reason and normal(record.chosen) == normal(record.rejected):
        reason = "the better and the worse answer are the same"
    return reason


def _order(messages: tuple[Message, ...], last: str) -> str:
    """Why these turns are no dialogue that ends with `last`; "" when they are."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if not turns:
        return "no turns"
    for index, message in enumerate(turns):
        if message.role != ("assistant" if index % 2 else "user"):
            return "roles do not take turns, beginning with the user"
        if not message.content:
            return "empty answer" if index % 2 else "empty question"
    if turns[-1].role != last:
        return "does not end with an answer" if last == "assistant" else "does not end with a question"
    if any(a.content.split() == b.content.split() for a, b in zip(turns[::2], turns[1::2], strict=False)):
        return "the answer repeats the question"
    return ""
