"""Firefly's dialogues: a conversation of human/assistant rounds; also MOSS's own, of which it took them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, needed_text, rows_of, text_of
from medcli.core.record import Conversation, Message, Row

HELP = "Firefly: conversation of human/assistant rounds; and moss-003's chat of Human/MOSS rounds"
# MOSS's texts stand between marks such as `<|Human|>: …<eoh>`.
_MARKS = re.compile(r"^\s*<\|(?:Human|MOSS)\|>:\s*|\s*<eo[hm]>\s*$")


def fits(peek: Peek) -> int:
    """Whether the first dialogue has rounds."""
    for column, names in (("conversation", {"human", "assistant"}), ("chat", {"Human", "MOSS"})):
        rounds = _rounds(peek.first(column))
        if rounds and isinstance(rounds[0], Mapping) and names <= set(rounds[0]):
            return 85
    return 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One dialogue per row."""
    return rows_of(source, lambda row, id: _record(row, id, options.source))


def _record(row: Mapping[str, Any], id: str, source: str) -> Conversation:
    """MOSS's thoughts, its calls of tools and what it is told about itself are no part of the dialogue."""
    human, assistant = ("Human", "MOSS") if "chat" in row else ("human", "assistant")
    messages = [Message(role="system", content=system)] if (system := text_of(row, "system").strip()) else []
    for turn in _rounds(row.get("chat", row.get("conversation"))):
        if not isinstance(turn, Mapping):
            raise Refused("broken dialogue: a round is not an object")
        messages.append(Message(role="user", content=_MARKS.sub("", needed_text(turn, human))))
        messages.append(Message(role="assistant", content=_MARKS.sub("", needed_text(turn, assistant))))
    if not messages:
        raise Refused("broken dialogue: no rounds")
    return Conversation(id=id, messages=tuple(messages), source=source)


def _rounds(value: Any) -> list[Any]:
    """The rounds in a list, or under `turn_1`, `turn_2`, …"""
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
