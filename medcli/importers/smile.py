"""SMILE: counselling dialogues, each a file of its own that is a list of turns."""

from collections.abc import Iterator

from medcli.core.peek import Peek, items
from medcli.core.raw import Item, RawFile, Source, raw_files
from medcli.core.raw_rows import ReadOptions, dialogue, refused, rows_from, turns_of
from medcli.core.record import Conversation, Role, Row

HELP = "SMILE: files that are one dialogue each, a list of role/content turns of client and counselor"
_ROLES: dict[str, Role] = {"client": "user", "counselor": "assistant"}
_MOST_TURNS = 5000


def fits(peek: Peek) -> int:
    """Whether the values of the file are turns."""
    roles = [row.get("role") for row in peek.rows if "content" in row]
    return 80 if roles and all(role in tuple(_ROLES) for role in roles) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One dialogue per file; turns of one role that follow each other are one."""
    for raw in raw_files(source):
        yield from _row(raw, options.source)


def _row(raw: RawFile, source: str) -> Iterator[Row]:
    turns: list[object] = []
    for item in items(raw):
        if item.reason or len(turns) == _MOST_TURNS:
            yield refused(raw, item, item.reason or f"dialogue too long: more than {_MOST_TURNS:,} turns")
            return
        turns.append(item.value)
    whole = Item(line=1, number=1, value=turns)
    yield from rows_from(raw, whole, lambda value, id: _record(value, id, source), list)


def _record(turns: list[object], id: str, source: str) -> Conversation:
    return Conversation(id=id, messages=dialogue(turns_of(turns, "role", "content", _ROLES)), source=source)
