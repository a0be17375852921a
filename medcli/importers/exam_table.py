"""Exam questions with their options in columns A, B, C, D, as C-Eval and CMMLU have them, or in one column."""

from collections.abc import Collection, Iterator, Mapping
from string import ascii_uppercase
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import RawFile, Source, raw_files
from medcli.core.raw_exam import choices_of, exam_rows, question, subject_of
from medcli.core.raw_rows import ReadOptions, Refused, joined, text_of
from medcli.core.record import Question, Row

HELP = "exam questions as a table or JSON: question, A, B, C, D (or options), answer; C-Eval's and CMMLU's files"
_STEMS = ("question", "stem", "题目", "问题", "题干")
_CASES = ("case", "context", "passage", "background", "案例", "病例", "共用题干")  # shared by several questions
_OPTIONS = ("options", "option", "choices", "选项")
_ANSWERS = ("answer", "answers", "答案", "正确答案")
_SUBJECTS = ("subject", "subject_name", "科目", "学科")


def fits(peek: Peek) -> int:
    """Whether there is a question with options; C-Eval's test files have no answers."""
    names = _by_name(peek.columns)
    if not _first(names, _STEMS):
        return 0
    if {"a", "b"} <= set(names):
        return 85
    return 50 if _first(names, _OPTIONS) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question per row; its subject is the file's name where no column tells it."""
    return exam_rows(raw_files(source), lambda raw, row, id: _question(raw, row, id, options.source))


def _question(raw: RawFile, row: Mapping[str, Any], id: str, source: str) -> Question:
    names = _by_name(row)
    stem = _first(names, _STEMS)
    if not stem:
        raise Refused(f"missing column: '{_STEMS[0]}'")
    asked = joined(_text(row, names, _CASES), text_of(row, stem))
    together = _first(names, _OPTIONS)
    apart = {letter: row[names[letter.lower()]] for letter in ascii_uppercase if letter.lower() in names}
    choices = choices_of(row[together] if together else apart)
    subject = _text(row, names, _SUBJECTS).strip() or subject_of(raw)
    answer = _first(names, _ANSWERS)
    return question(id, source, asked, choices, row[answer] if answer else None, subject)


def _by_name(columns: Collection[str]) -> dict[str, str]:
    return {name.strip().lower(): name for name in columns}


def _text(row: Mapping[str, Any], names: Mapping[str, str], wanted: tuple[str, ...]) -> str:
    column = _first(names, wanted)
    return text_of(row, column) if column else ""


def _first(names: Mapping[str, str], wanted: tuple[str, ...]) -> str:
    return next((names[name] for name in wanted if name in names), "")
