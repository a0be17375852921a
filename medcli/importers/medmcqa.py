"""MedMCQA: Indian entrance examinations; the right option is a number, from 1 in its own files, from 0 on the hub."""

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from medcli.core.errors import DataError
from medcli.core.peek import Peek, items
from medcli.core.raw import RawFile, Source, raw_files
from medcli.core.raw_exam import choices_of, exam_rows, question
from medcli.core.raw_rows import ReadOptions, Refused, needed_text, text_of
from medcli.core.record import Question, Row

HELP = "MedMCQA's JSON or CSV: question, opa, opb, opc, opd, cop (from 1, or from 0 as on the hub), subject_name"
_OPTIONS = ("opa", "opb", "opc", "opd")


def fits(peek: Peek) -> int:
    """Whether there are its columns; the test split has no `cop`."""
    return 88 if {"question", *_OPTIONS} <= set(peek.columns) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question per row; raises DataError when nothing tells whether `cop` counts from 0 or from 1."""
    files = raw_files(source)
    first = _first_number(files, source)
    return exam_rows(files, lambda raw, row, id: _question(row, id, first, options.source))


def _question(row: Mapping[str, Any], id: str, first: int, source: str) -> Question:
    choices = choices_of([row.get(column) for column in _OPTIONS])
    number = _number(row)
    if number < 0:
        raise Refused("no answer")
    if not 0 <= number - first < len(_OPTIONS):
        raise Refused(f"cop is out of range: {number} where the first option is {first}")
    letter = ascii_uppercase[number - first]
    return question(id, source, needed_text(row, "question"), choices, letter, text_of(row, "subject_name").strip())


def _first_number(files: Sequence[RawFile], source: Source) -> int:
    """0 or 1: four options are 0 to 3 or 1 to 4, so the first 0 or 4 decides; without an answer it does not matter."""
    answered = 0
    for raw in files:
        for item in items(raw):
            number = _number(item.value) if isinstance(item.value, Mapping) else -1
            if number in (0, 4):
                return int(number == 4)
            answered += number > 0
    if answered:
        raise DataError(
            f"{source}: whether cop counts from 0 or from 1 cannot be told: no answer is 0 or 4",
            hint="build from the whole file, or put another of its files beside it and name the folder",
        )
    return 1


def _number(row: Mapping[str, Any]) -> int:
    """The value of `cop`, -1 where there is none."""
    try:
        return int(float(row["cop"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return -1
