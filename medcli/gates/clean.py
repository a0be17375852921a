"""Tidy the text of a record, and refuse one that cannot be learnt from."""

import re
from collections.abc import Callable
from dataclasses import replace

from medcli.core.fingerprint import normal
from medcli.core.record import Conversation, Document, Message, Preference, Question, Record

# Control characters but tab and line break, byte order marks, half surrogate pairs (UTF-8 cannot hold them).
_JUNK = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ud800-\udfff]")


def gate() -> Callable[[Record], Record | str]:
    """A function from a record to the tidied record, or to the reason why it is refused."""
    return _check


def tidy(text: str) -> str:
    """Text with plain line ends and spaces, without control characters and without white space around it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ").replace("\u3000", " ")
    return _JUNK.sub("", text).strip()


def _check(record: Record) -> Record | str:
    record = replace(record, id=tidy(record.id))
    match record:
        case Conversation():
            return _conversation(record)
        case Preference():
            return _preference(record)
        case Document():
            text = tidy(record.text)
            return replace(record, text=text) if text else "empty text"
        case Question():
            return replace(record, stem=stem) if (stem := tidy(record.stem)) else "empty question"


def _conversation(record: Conversation) -> Conversation | str:
    messages = _tidied(record.messages)
    if reason := _order(messages, "assistant"):
        return reason
    meta = {tidy(key): tidy(value) for key, value in record.meta.items()}
    return replace(record, messages=messages, meta=meta)


def _preference(record: Preference) -> Preference | str:
    prompt = _tidied(record.prompt)
    chosen, rejected = tidy(record.chosen), tidy(record.rejected)
    reason = _order(prompt, "user")
    if not reason and not (chosen and rejected):
        reason = "empty answer"
    if not reason and normal(chosen) == normal(rejected):
        reason = "the better and the worse answer are the same"
    return reason or replace(record, prompt=prompt, chosen=chosen, rejected=rejected)


def _tidied(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    tidied = (Message(role=message.role, content=tidy(message.content)) for message in messages)
    return tuple(message for message in tidied if message.role != "system" or message.content)


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
