"""OpenAI's dialogues: `messages` of turns with `role` and `content`; also as `conversation(s)`."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, rows_of, turns_of
from medcli.core.record import Conversation, Role, Row

HELP = "messages (or conversation) of role/content turns: user/assistant, as OpenAI has them, or patient/doctor"
_COLUMNS = ("messages", "conversation", "conversations")
_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
    "human": "user",
    "patient": "user",
    "doctor": "assistant",
}


def fits(peek: Peek) -> int:
    """Whether the first dialogue has role/content turns."""
    for column in _COLUMNS:
        turns = peek.first(column)
        if isinstance(turns, list) and isinstance(turns[0], dict) and {"role", "content"} <= set(turns[0]):
            return 80
    return 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One dialogue per row."""
    names = tuple(filter(None, (options.columns.get("messages"),))) or _COLUMNS
    return rows_of(source, lambda row, id: _record(row, id, names, options.source))


def _record(row: Mapping[str, Any], id: str, names: tuple[str, ...], source: str) -> Conversation:
    column = next((name for name in names if name in row), "")
    if not column:
        raise Refused(f"missing column: '{names[0]}'")
    return Conversation(id=id, messages=turns_of(row[column], "role", "content", _ROLES), source=source)
