"""MedQA: licensing examinations of the USA, mainland China and Taiwan, with four or five options."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import RawFile, Source, raw_files
from medcli.core.raw_exam import choices_of, exam_rows, question
from medcli.core.raw_rows import ReadOptions, Refused, needed_text, text_of
from medcli.core.record import Question, Row

HELP = "MedQA's JSON Lines (US, Mainland, Taiwan; 4 or 5 options): question, options, answer, answer_idx, meta_info"


def fits(peek: Peek) -> int:
    """Whether there are its columns."""
    return 88 if {"question", "options", "answer_idx"} <= set(peek.columns) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question per row; its subject is the part of the examination."""
    return exam_rows(raw_files(source), lambda raw, row, id: _question(raw, row, id, options.source))


def _question(raw: RawFile, row: Mapping[str, Any], id: str, source: str) -> Question:
    choices = choices_of(row.get("options"))
    subject = text_of(row, "meta_info").strip()
    made = question(id, source, needed_text(row, "question"), choices, row.get("answer_idx"), subject)
    said = text_of(row, "answer").strip()
    if said in choices and said not in [choices[ord(letter) - ord("A")] for letter in made.answer]:
        raise Refused(f"the answer's letter and its text are two options: {made.answer}, {said[:40]}")
    return made
