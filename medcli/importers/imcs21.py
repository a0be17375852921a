"""IMCS-21 and IMCS-V2: consultations about children, each with what the parents reported first."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, dialogue, needed_text, rows_of, text_of, turns_of
from medcli.core.record import Conversation, Role, Row

HELP = "IMCS-21 / IMCS-V2: self_report and a dialogue of speaker/sentence turns, one object by number or a list"
_ROLES: dict[str, Role] = {"患者": "user", "病人": "user", "医生": "assistant"}


def fits(peek: Peek) -> int:
    """Whether there is a report and a dialogue."""
    return 85 if {"self_report", "dialogue"} <= set(peek.columns) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One dialogue per consultation; the diagnosis stays with it."""
    return rows_of(source, lambda row, id: _record(row, id, options.source))


def _record(row: Mapping[str, Any], id: str, source: str) -> Conversation:
    turns = turns_of(row.get("dialogue"), "speaker", "sentence", _ROLES)
    messages = dialogue(turns, needed_text(row, "self_report"))
    diagnosis = text_of(row, "diagnosis").strip()
    return Conversation(id=id, messages=messages, source=source, meta={"diagnosis": diagnosis} if diagnosis else {})
