"""MLEC-QA: the Chinese medical licensing examination in five subjects, a file for each part of each."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import RawFile, Source, raw_files
from medcli.core.raw_exam import choices_of, exam_rows, question, subject_of
from medcli.core.raw_rows import ReadOptions, Refused, needed_text, text_of
from medcli.core.record import Question, Row

HELP = "MLEC-QA's JSON: qid, qtype, qtext, options {A…E}, answer; the subject is the file's name (Clinic_test.json)"


def fits(peek: Peek) -> int:
    """Whether there are its columns."""
    return 88 if {"qtext", "options"} <= set(peek.columns) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question per row; one that shows a picture is refused."""
    return exam_rows(raw_files(source), lambda raw, row, id: _question(raw, row, id, options.source))


def _question(raw: RawFile, row: Mapping[str, Any], id: str, source: str) -> Question:
    if row.get("qimage"):
        raise Refused("needs a picture")
    subject = subject_of(raw) or text_of(row, "qtype")
    return question(id, source, needed_text(row, "qtext"), choices_of(row.get("options")), row.get("answer"), subject)
