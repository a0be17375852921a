"""What importers share: from the values of raw files to rows with a record or a reason."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, cast

from medcli.core.peek import items
from medcli.core.raw import Item, RawFile, Source, raw_files
from medcli.core.record import ROLES, Conversation, Message, Record, Role, Row

_SHOWN = 500


class Refused(ValueError):
    """A row holds no record. What stands before ": " is counted, what follows it is for this row only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read. `source` is the name that records get; `columns` and `tags` come from dataset_info.json.

    When `columns` is given it says all: a part that it does not name, or names "", has no column.
    """

    source: str
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def columns_or(self, usual: Mapping[str, str]) -> dict[str, str]:
        """Part -> column: as given, else as `usual`."""
        return {part: name for part, name in (self.columns or usual).items() if name}


Make = Callable[[Any, str], Record | list[Record]]


def rows_of(source: Source, make: Make, shape: type = Mapping) -> Iterator[Row]:
    """The rows of every value in the files of `source`.

    `make(value, id)` gives a record, or several, or raises Refused; it sees values of type `shape` only.
    """
    for raw in raw_files(source):
        for item in items(raw):
            yield from rows_from(raw, item, make, shape)


def rows_from(raw: RawFile, item: Item, make: Make, shape: type = Mapping) -> Iterator[Row]:
    """The rows of one value: one for each record it holds, or one with the reason why there is none.

    `make` numbers the ids of several records itself: `id`, `id.2`, `id.3`.
    """
    if item.reason:
        yield refused(raw, item, item.reason)
        return
    try:
        if not isinstance(item.value, shape):
            raise Refused("not an object with columns" if shape is Mapping else f"not a {shape.__name__}")
        made = make(item.value, f"{raw.label}-{item.number}")
    except Refused as reason:
        yield refused(raw, item, str(reason))
        return
    for record in made if isinstance(made, list) else [made]:
        yield Row(file=raw.name, line=item.line, record=record, split=raw.split, text=shown(item.value))


def refused(raw: RawFile, item: Item, reason: str) -> Row:
    """A row without a record, with the beginning of what stood there."""
    return Row(file=raw.name, line=item.line, reason=reason, text=item.text or shown(item.value), split=raw.split)


def shown(value: Any) -> str:
    """The beginning of a raw value, to be found again by whoever reads refused.jsonl."""
    if value is None:
        return ""
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)[: _SHOWN * 2])[
        :_SHOWN
    ]


def text_of(row: Mapping[str, Any], column: str) -> str:
    """The text in a column, "" when it is empty or absent; raises Refused when it is no text."""
    return as_text(row.get(column), column)


def needed_text(row: Mapping[str, Any], column: str) -> str:
    """The text in a column that must be there; raises Refused when it is not."""
    if column not in row:
        raise Refused(f"missing column: '{column}'")
    return text_of(row, column)


def as_text(value: Any, what: str) -> str:
    """`value` as text, where the raw data means one: tables exported by pandas hold NaN for nothing."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"not text: '{what}'")
    return _number(value)


def joined(*parts: str) -> str:
    """The parts that are not empty, one a line; a part that another one holds is left out."""
    kept: list[str] = []
    for part in (part.strip() for part in parts):
        if part and not any(part in other for other in kept):
            kept = [other for other in kept if other not in part] + [part]
    return "\n".join(kept)


def single_turn(
    id: str, source: str, question: str, answer: str, meta: Mapping[str, str] | None = None
) -> Conversation:
    """One question and its answer."""
    messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(id=id, messages=messages, source=source, meta=meta or {})


def turns_of(turns: Any, role_key: str, content_key: str, roles: Mapping[str, Role]) -> tuple[Message, ...]:
    """The messages in a list of `{role_key: …, content_key: …}`; raises Refused when it is none."""
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not all(isinstance(t, Mapping) for t in turns):
        raise Refused("broken dialogue: not a list of turns")
    messages = []
    for turn in cast(Sequence[Mapping[str, Any]], turns):
        if role_key not in turn or content_key not in turn:
            raise Refused(f"broken dialogue: a turn without '{role_key}' and '{content_key}'")
        role = turn[role_key]
        if not isinstance(role, str) or role not in roles:
            raise Refused(f"unknown role: {str(role)[:40]!r}")
        messages.append(Message(role=roles[role], content=as_text(turn[content_key], content_key)))
    return tuple(messages)


def spoken(text: str, roles: Mapping[str, Role]) -> Message:
    """The turn in a text that begins with its speaker: `病人：头疼`; raises Refused when it does not."""
    speaker, colon, said = text.replace(":", "：", 1).partition("：")
    role = roles.get(speaker.strip().lower())
    if role is None or not colon:
        raise Refused(f"a turn without a speaker: {text[:40]!r}")
    return Message(role=role, content=said)


def dialogue(turns: Iterable[Message], opening: str = "") -> tuple[Message, ...]:
    """Turns as people wrote them, as a dialogue: a question first, an answer last, the roles taking turns.

    Turns of one role that follow each other become one, a line each; a turn that only repeats the one before is left
    out. `opening` is what the patient had told before, and begins the first question unless that holds it. Answers
    before any question and questions after the last answer are left out; raises Refused when nothing is left.
    """
    told = [(turn.role, turn.content.strip()) for turn in turns if turn.content.strip()]
    once = [turn for before, turn in pairwise([None, *told]) if turn != before and turn]
    messages = [
        Message(role=role, content="\n".join(text for _, text in group)) for role, group in groupby(once, itemgetter(0))
    ]
    if opening.strip():
        asked = messages.pop(0).content if messages and messages[0].role == "user" else ""
        messages.insert(0, Message(role="user", content=joined(opening, asked)))
    while messages and messages[0].role == "assistant":
        messages.pop(0)
    while messages and messages[-1].role == "user":
        messages.pop()
    if not messages:
        raise Refused("no question with an answer in the dialogue")
    return tuple(messages)


def history_of(turns: Any) -> tuple[Message, ...]:
    """The messages of Alpaca's history: `[[question, answer], …]`, role/content turns, either as JSON, or nothing.

    Raises Refused when it is none of these.
    """
    if isinstance(turns, str) and turns.strip():
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError) as error:
            raise Refused("broken history: text that is no JSON") from error
    if not turns or turns != turns:
        return ()
    if not isinstance(turns, list):
        raise Refused("broken history: not a list of [question, answer]")
    if all(isinstance(turn, Mapping) for turn in turns):
        return turns_of(turns, "role", "content", {role: cast(Role, role) for role in ROLES})
    messages: list[Message] = []
    for turn in turns:
        if not isinstance(turn, list) or len(turn) != 2:
            raise Refused("broken history: a turn is not [question, answer]")
        messages.append(Message(role="user", content=as_text(turn[0], "history")))
        messages.append(Message(role="assistant", content=as_text(turn[1], "history")))
    return tuple(messages)


def _number(value: int | float) -> str:
    try:
        return str(value)
    except ValueError as error:  # Python prints no integer of more than 4,300 digits
        raise Refused("not text: a number of thousands of digits") from error
