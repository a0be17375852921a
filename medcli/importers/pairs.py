"""Tables and JSON with a question and an answer, whatever the columns are called."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, joined, needed_text, rows_of, single_turn, text_of
from medcli.core.record import Conversation, Row

HELP = "CSV, TSV or JSON with two columns: question/answer, ask/answer, query/response, input/target, 问/答 …"
# The first pair whose columns are both there is taken, so the special come before the general.
_PAIRS = (
    ("ask", "answer"),
    ("question", "answer"),
    ("query", "answer"),
    ("query", "response"),
    ("question", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("instruction", "response"),
    ("instruction", "answer"),
    ("input", "target"),
    ("input", "output"),
    ("input", "answer_icliniq"),  # the human doctor's, beside ChatGPT's and ChatDoctor's
    ("question", "output"),
    ("text", "answer"),
    ("title", "answer"),
    ("q", "a"),
    ("问", "答"),
    ("问题", "回答"),
    ("问题", "答案"),
    ("提问", "回答"),
)
_DEPARTMENTS = ("department", "科室")
# ChatMed and others left the prompt they were asked with around the question.
_WRAPPED = re.compile(r"^(?:<s>)?\s*问[:：]\s*(.*?)\s*答[:：]\s*$", re.DOTALL)


def fits(peek: Peek) -> int:
    """Whether a known pair of columns is there."""
    return 40 if _pair(peek.columns) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question and its answer per row; the department stays with it."""
    return rows_of(source, lambda row, id: _record(row, id, options.source))


def _record(row: Mapping[str, Any], id: str, source: str) -> Conversation:
    by_name = {name.strip().lower(): name for name in row}
    pair = _pair(by_name)
    if pair is None:
        raise Refused(f"missing column: a question and its answer (there is {', '.join(row)[:80]})")
    question = needed_text(row, by_name[pair[0]])
    if "title" in by_name and pair[0] == "ask":
        question = joined(text_of(row, by_name["title"]), question)
    if wrapped := _WRAPPED.match(question):
        question = wrapped[1]
    department = next((text_of(row, by_name[name]) for name in _DEPARTMENTS if name in by_name), "").strip()
    answer = needed_text(row, by_name[pair[1]])
    return single_turn(id, source, question, answer, {"department": department} if department else {})


def _pair(columns: Collection[str]) -> tuple[str, str] | None:
    names = {name.strip().lower() for name in columns}
    return next((pair for pair in _PAIRS if names >= set(pair)), None)
