"""ShareGPT dialogues: `conversations` of turns with `from` and `value`."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, rows_of, text_of, turns_of
from medcli.core.record import Conversation, Message, Role, Row

HELP = "conversations of from/value turns; human and user ask, gpt and assistant answer, system leads"
_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "system": "system",
}


def fits(peek: Peek) -> int:
    """Whether the first dialogue has from/value turns."""
    turns = peek.first("conversations")
    return 80 if isinstance(turns, list) and isinstance(turns[0], dict) and {"from", "value"} <= set(turns[0]) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One dialogue per row."""
    columns = options.columns_or({"messages": "conversations", "system": "system"})
    tags = {"role_tag": "from", "content_tag": "value"} | dict(options.tags)
    roles = dict(_ROLES)
    for role in ("user", "assistant", "system"):
        if name := tags.get(f"{role}_tag"):
            roles[name] = role
    return rows_of(source, lambda row, id: _record(row, id, columns, tags, roles, options.source))


def _record(
    row: Mapping[str, Any],
    id: str,
    columns: Mapping[str, str],
    tags: Mapping[str, str],
    roles: Mapping[str, Role],
    source: str,
) -> Conversation:
    column = columns.get("messages", "")
    if column not in row:
        raise Refused(f"missing column: '{column or 'messages'}'")
    messages = turns_of(row[column], tags["role_tag"], tags["content_tag"], roles)
    system = text_of(row, columns["system"]) if "system" in columns else ""
    if system.strip() and not any(message.role == "system" for message in messages):
        messages = (Message(role="system", content=system), *messages)
    return Conversation(id=id, messages=messages, source=source)
