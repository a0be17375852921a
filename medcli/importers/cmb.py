"""CMB-Exam: train and val whole, the test in two files of questions and answers that are joined by id."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from medcli.core.errors import DataError
from medcli.core.peek import Peek, items, look_at
from medcli.core.raw import RawFile, Source, raw_files
from medcli.core.raw_exam import choices_of, exam_rows, question
from medcli.core.raw_rows import ReadOptions, Refused, needed_text, refused, text_of
from medcli.core.record import Question, Row

HELP = "CMB-Exam's JSON (folder or CMB.zip): train, val, and test questions joined with their answers by id"
_ANSWERS = "CMB-test-choice-answer.json"
_EXAM_FILE = re.compile(r"cmb-(?:train|val|test-choice-(?:question|answer))", re.IGNORECASE)


def fits(peek: Peek) -> int:
    """Whether it is one of the exam's files, or lies among them: CMB's cases then belong to another importer."""
    among = any(_EXAM_FILE.match(PurePosixPath(name).name) for name in peek.files)
    if among and "cmb" in peek.file.lower():
        return 97  # above all others: it joins the files of a folder
    return 88 if _holds(peek) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question per row, its subject is "exam_type/exam_class"; raises DataError when there are only answers."""
    kinds = {raw: _holds(look_at(raw)) for raw in raw_files(source)}
    asked = [raw for raw, kind in kinds.items() if kind == "questions"]
    if not asked:
        raise DataError(
            f"{source} holds CMB's answers without their questions",
            hint="put CMB-test-choice-question-merge.json, which is in CMB.zip, beside them and name the folder",
        )
    answers: dict[str, tuple[Row, Any]] = {}
    for raw in [raw for raw, kind in kinds.items() if kind == "answers"]:
        yield from _read_answers(raw, answers)
    used: set[str] = set()
    yield from exam_rows(asked, lambda raw, row, id: _question(row, id, answers, used, options.source))
    yield from (row for id, (row, _) in answers.items() if id not in used)


def _holds(peek: Peek) -> str:
    """ "questions", "answers", or "" for what is no part of the exam."""
    columns = set(peek.columns)
    if not columns & {"exam_type", "exam_class", "exam_subject"}:
        return ""
    if {"question", "option"} <= columns:
        return "questions"
    return "answers" if {"id", "answer"} <= columns and "question" not in columns else ""


def _read_answers(raw: RawFile, answers: dict[str, tuple[Row, Any]]) -> Iterator[Row]:
    """Note each answer by its id, with the row to refuse should nobody ask for it."""
    for item in items(raw):
        if item.reason or not isinstance(item.value, Mapping) or "id" not in item.value:
            yield refused(raw, item, item.reason or "an answer without an id")
        elif (id := str(item.value["id"])) in answers:
            yield refused(raw, item, "answer id used twice")
        else:
            answers[id] = (refused(raw, item, "answer to a question that is not there"), item.value.get("answer"))


def _question(
    row: Mapping[str, Any], id: str, answers: Mapping[str, tuple[Row, Any]], used: set[str], source: str
) -> Question:
    answer, key = row.get("answer"), str(row.get("id", ""))
    if not answer and key in answers:
        used.add(key)
        answer = answers[key][1]
    if not answer:
        raise Refused(f"no answer (the test's are in {_ANSWERS})")
    subject = "/".join(filter(None, (text_of(row, column).strip() for column in ("exam_type", "exam_class"))))
    return question(id, source, needed_text(row, "question"), choices_of(row.get("option")), answer, subject)
