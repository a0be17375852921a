"""HuatuoGPT's dialogues: `data`, a list of texts that begin with 问： and 答：."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, dialogue, rows_of, spoken
from medcli.core.record import Conversation, Role, Row

HELP = "HuatuoGPT's data lists: texts that begin with 问： (or 患者：) and 答： (or 医生：) in turn"
_ROLES: dict[str, Role] = {
    "问": "user",
    "用户": "user",
    "患者": "user",
    "病人": "user",
    "答": "assistant",
    "医生": "assistant",
    "huatuogpt": "assistant",
}


def fits(peek: Peek) -> int:
    """Whether the first list begins with a speaker."""
    turns = peek.first("data")
    first = turns[0] if isinstance(turns, list) else ""
    return 80 if isinstance(first, str) and first.replace(":", "：").partition("：")[0].strip() in _ROLES else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One dialogue per row; a question at its end that nobody answers is left out."""
    return rows_of(source, lambda row, id: _record(row, id, options.source))


def _record(row: Mapping[str, Any], id: str, source: str) -> Conversation:
    turns = row.get("data")
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise Refused("broken dialogue: 'data' is not a list of texts")
    return Conversation(id=id, messages=dialogue(spoken(turn, _ROLES) for turn in turns), source=source)
