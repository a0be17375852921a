"""CMExam: questions of the Chinese licensing examination, options as one text or as a list of key and value."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import RawFile, Source, raw_files
from medcli.core.raw_exam import choices_of, exam_rows, question
from medcli.core.raw_rows import ReadOptions, needed_text, text_of
from medcli.core.record import Question, Row

HELP = 'CMExam\'s CSV or JSON: Question, Options ("A …" lines or key/value), Answer, Explanation, Clinical Department'
_SUBJECTS = ("Clinical Department", "Medical Discipline")  # only the annotated test has them


def fits(peek: Peek) -> int:
    """Whether there are its columns, with capitals."""
    return 88 if {"Question", "Options", "Answer"} <= set(peek.columns) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question per row."""
    return exam_rows(raw_files(source), lambda raw, row, id: _question(raw, row, id, options.source))


def _question(raw: RawFile, row: Mapping[str, Any], id: str, source: str) -> Question:
    subject = next(filter(None, (text_of(row, column).strip() for column in _SUBJECTS)), "")
    choices = choices_of(row.get("Options"))
    return question(id, source, needed_text(row, "Question"), choices, row.get("Answer"), subject)
