"""MedDialog: consultations between patients and doctors, as raw text or as lists of `病人：…`, `医生：…`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medcli.core.encoding import encoding_of
from medcli.core.peek import Peek, format_of, items
from medcli.core.raw import Item, RawFile, Source, lines_of, open_text, raw_files
from medcli.core.raw_rows import ReadOptions, Refused, dialogue, rows_from, spoken, text_of
from medcli.core.record import Conversation, Message, Role, Row

HELP = "MedDialog: text of id=, Description, Dialogue, 病人：/医生：; or JSON lists of such turns"
_ROLES: dict[str, Role] = {
    "病人": "user",
    "患者": "user",
    "patient": "user",
    "医生": "assistant",
    "doctor": "assistant",
}
_TURNS = "utterances"  # the column in which the hub's version has them
_ID = re.compile(r"id\s*=\s*\d+")
_SECTIONS = ("Doctor faculty", "Description", "Dialogue", "Diagnosis and suggestions")
_DOCTORS_RECORD = re.compile(r"主诉[:：]")  # stands at the end of some descriptions and holds the diagnosis
_LONGEST = 1 << 20  # characters of one consultation


def fits(peek: Peek) -> int:
    """Whether it is text with sections, or turns in a list that begin with their speaker."""
    if peek.format == "text":
        lines = {line.strip() for line in peek.lines}
        return 80 if any(map(_ID.fullmatch, lines)) and lines & {"Description", "Dialogue"} else 0
    first = next((_turns(value) for value in peek.values if _turns(value)), None)
    return 80 if first and all(_is_spoken(turn) for turn in first[:2]) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One dialogue per consultation, what the patient described first in its first question."""
    for raw in raw_files(source):
        if format_of(raw) == "text":
            for item in _consultations(raw):
                yield from rows_from(raw, item, lambda text, id: _of_text(text, id, options.source), str)
        else:
            for item in items(raw):
                yield from rows_from(raw, item, lambda value, id: _of_turns(value, id, options.source), object)


def _consultations(raw: RawFile) -> Iterator[Item]:
    """The texts of the consultations. Under one id there may be several, each with its own Description.

    The crawler that made the files put other patients' consultations there too.
    """
    number, first, length = 0, 1, 0
    block: list[str] = []
    with open_text(raw, encoding_of(raw)) as file:
        for line, text, _ in lines_of(file):
            mark = text.strip()
            if _ID.fullmatch(mark) or (mark == "Description" and _is_described(block)):
                if any(map(str.strip, block)):
                    number += 1
                    yield _item(block, first, number, length)
                block, first, length = [], line, 0
            length += len(text)
            if length <= _LONGEST:
                block.append(text)
    if any(map(str.strip, block)):
        yield _item(block, first, number + 1, length)


def _is_described(block: list[str]) -> bool:
    return any(line.strip() == "Description" for line in block)


def _item(block: list[str], line: int, number: int, length: int) -> Item:
    text = "".join(block)
    if length > _LONGEST:
        reason = "consultation too long: more than a million characters"
        return Item(line=line, number=number, reason=reason, text=text[:500])
    return Item(line=line, number=number, value=text)


def _of_text(text: str, id: str, source: str) -> Conversation:
    """Only a line that is nothing but `病人：` or `医生：` changes the speaker, whatever stands in their words."""
    section, role = "", None
    described: list[str] = []
    turns: list[Message] = []
    for line in map(str.strip, text.splitlines()):
        if line in _SECTIONS:
            section, role = line, None
        elif _DOCTORS_RECORD.match(line) and section == "Description":
            section = ""
        elif section == "Description":
            described.append(line)
        elif section == "Dialogue" and line[-1:] in "：:" and line[:-1].lower() in _ROLES:
            role = _ROLES[line[:-1].lower()]
        elif section == "Dialogue" and role:
            turns.append(Message(role=role, content=line))
    return _conversation(id, source, turns, "\n".join(described).strip())


def _of_turns(value: Any, id: str, source: str) -> Conversation:
    turns = _turns(value)
    if turns is None:
        raise Refused("not a list of turns")
    opening = text_of(value, "description") if isinstance(value, Mapping) else ""
    return _conversation(id, source, [spoken(turn, _ROLES) for turn in turns], opening)


def _conversation(id: str, source: str, turns: Iterable[Message], opening: str) -> Conversation:
    return Conversation(id=id, messages=dialogue(turns, opening), source=source)


def _turns(value: Any) -> list[str] | None:
    turns = value.get(_TURNS) if isinstance(value, Mapping) else value
    return turns if isinstance(turns, list) and all(isinstance(turn, str) for turn in turns) else None


def _is_spoken(turn: str) -> bool:
    speaker, colon, _ = turn.replace(":", "：").partition("：")
    return bool(colon) and speaker.strip().lower() in _ROLES
