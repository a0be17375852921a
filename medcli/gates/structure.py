"""Refuse a record that is no question and answer: turns out of order, empty parts, an answer that repeats."""

import re
from collections import Counter
from collections.abc import Callable

from medcli.core.build_settings import BuildSettings
from medcli.core.fingerprint import normal
from medcli.core.record import Conversation, Document, Message, Preference, Question, Record

HELP = "turns out of order, empty or meaningless parts, an answer that repeats the question"

# What export scripts and people write for nothing. 否, 是的 and an exam's A or √ are answers.
_VOID = r"null|none|nan|n/a|na|undefined|暂?无(?:回答|回复|内容|描述|数据)"
_NOTHING = re.compile(_VOID)
_NOTHING_OR_NO = re.compile(rf"{_VOID}|暂?无|没有")
_AROUND = " \n。.！!？?…,，、;；:：-—~～\"'“”()（）[]【】"
_MEANING = re.compile(r"[^\W_]|[√×✓✗✔✘]")
_LONGEST_NOTHING = 40  # characters; longer texts are searched for a letter only


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
            return "empty text" if _says_nothing(record.text) else record
        case Question():
            return "empty question" if _says_nothing(record.stem) else record


def _preference(record: Preference) -> str:
    reason = _order(record.prompt, "user")
    if not reason and (_says_nothing(record.chosen) or not record.rejected):
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
        if not message.content or _is_empty(message.content, index, len(turns)):
            return "empty answer" if index % 2 else "empty question"
    if turns[-1].role != last:
        return "does not end with an answer" if last == "assistant" else "does not end with a question"
    if any(a.content.split() == b.content.split() for a, b in zip(turns[::2], turns[1::2], strict=False)):
        return "the answer repeats the question"
    return ""


def _is_empty(text: str, index: int, turns: int) -> bool:
    """Whether this turn means nothing where it stands: "无" as an only answer, but not as the reply to 有过敏史吗？"""
    if index == 0 or turns <= 2:
        return _says_nothing(text)
    return index % 2 == 1 and _says_nothing(text, _NOTHING)


def _says_nothing(text: str, words: re.Pattern[str] = _NOTHING_OR_NO) -> bool:
    """Whether a text holds no letter or digit, or only one of these words."""
    if not _MEANING.search(text):
        return True
    return len(text) <= _LONGEST_NOTHING and bool(words.fullmatch(text.strip(_AROUND).lower()))
