"""Dialogues written into the instruction, as in Huatuo's literature and Belle's dialogues; the output ends them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, dialogue, needed_text, rows_of
from medcli.core.record import Conversation, Message, Role, Row

HELP = "instruction that holds a dialogue (<user>: … <bot>: …, or Human: … Assistant: …), its last answer in output"
_MARK = re.compile(r"<(user|bot)>\s*[:：]|^\s*(Human|Assistant)[:：]", re.MULTILINE)
_ROLES: dict[str, Role] = {"user": "user", "human": "user", "bot": "assistant", "assistant": "assistant"}


def fits(peek: Peek) -> int:
    """Whether the first instruction begins with a speaker."""
    first = peek.first("instruction")
    return 75 if "output" in peek.columns and isinstance(first, str) and _MARK.match(first.strip()) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One dialogue per row."""
    return rows_of(source, lambda row, id: _record(row, id, options.source))


def _record(row: Mapping[str, Any], id: str, source: str) -> Conversation:
    before, *parts = _MARK.split(needed_text(row, "instruction"))
    speakers = [angled or plain for angled, plain in zip(parts[::3], parts[1::3], strict=True)]
    turns = [
        Message(role=_ROLES[speaker.lower()], content=text) for speaker, text in zip(speakers, parts[2::3], strict=True)
    ]
    if before.strip():
        turns.insert(0, Message(role="user", content=before))
    while turns and turns[-1].role == "assistant" and not turns[-1].content.strip():
        turns.pop()  # Belle ends with an empty `Assistant:` for the output
    if not turns or turns[-1].role != "user":
        raise Refused("the instruction does not end with a question")
    answer = needed_text(row, "output")
    if not answer.strip():
        raise Refused("empty answer")
    return Conversation(id=id, messages=dialogue([*turns, Message(role="assistant", content=answer)]), source=source)
