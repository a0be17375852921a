"""Tidy the text of a record, so that the same text is written the same way."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from medcli.core.build_settings import BuildSettings
from medcli.core.record import Conversation, Preference, Record, with_texts

HELP = "plain line ends and spaces, no control characters"
# Control characters but tab and line break, byte order marks, half surrogate pairs (UTF-8 cannot hold them).
_JUNK = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ud800-\udfff]")


def gate(settings: BuildSettings, changed: Counter[str]) -> Callable[[Record], Record | str]:
    """A function from a record to the tidied record."""
    return _tidied


def tidy(text: str) -> str:
    """Text with plain line ends and spaces, without control characters and without white space around it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ").replace("\u3000", " ")
    return _JUNK.sub("", text).strip()


def _tidied(record: Record) -> Record:
    record = with_texts(replace(record, id=tidy(record.id)), tidy)
    match record:
        case Conversation(messages=messages):
            return replace(record, messages=tuple(m for m in messages if m.role != "system" or m.content))
        case Preference(prompt=messages):
            return replace(record, prompt=tuple(m for m in messages if m.role != "system" or m.content))
    return record
