"""Answers that are there already, in a file of whatever program, as if a model gave them now."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcli.core.encoding import encoding_of
from medcli.core.errors import DataError, UsageError
from medcli.core.exam import Item
from medcli.core.fingerprint import normal
from medcli.core.peek import format_of, items
from medcli.core.raw import Item as RawItem
from medcli.core.raw import RawFile, open_text, raw_files
from medcli.core.raw_rows import Refused, as_text
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.speaker import Sampling

_IDS = ("id", "_id", "question_id", "qid", "que_id", "item_id", "uid", "uuid", "idx")
# Names that only a model's answer has stand first: beside them "answer" or "output" is mostly the right one.
_ANSWERS = (
    "model_answer", "model_output", "model_response", "predict", "prediction", "predicted", "pred", "generated_text",
    "generated", "generation", "response", "output", "answer", "text",
)  # fmt: skip
# What a row without an id may say of its question: the right answer (predictions of LLaMA-Factory and what came before
# it, {label, predict}), or what was asked (`med chat --json`).
_TELLING = ("label", "question")
_SHOWN = 3  # ids in a message
_HEAD = 1 << 10  # characters that tell an object from an array


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An answer, the id of its question ("" without), and what else tells the question."""

    text: str
    id: str = ""
    label: str = ""
    question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersFile:
    """The answers in `path`, in order: all of them with ids, each once, or none.

    `columns` are those that may hold answers; the first one was taken.
    """

    path: Path
    answers: tuple[Given, ...]
    columns: tuple[str, ...]

    def speaker_for(self, items: Sequence[Item], report: Report) -> "FileSpeaker":
        """A speaker for exactly these items, by their ids; without any, by order.

        An item without an answer gets "", an answer to another item is left out; both are told. Raises DataError when
        no id fits, or without ids the number.
        """
        taken, *others = self.columns
        if others:
            report.note(f"{self.path}: the answers are those of '{taken}', not of {_some(others)}")
        texts = self._by_id(items, report) if self.answers[0].id else self._by_order(items, report)
        return FileSpeaker(self.path, [item.prompt for item in items], texts)

    def _by_id(self, items: Sequence[Item], report: Report) -> list[str]:
        known = {given.id: given.text for given in self.answers}
        found = sum(item.id in known for item in items)
        if not found:
            raise DataError(
                f"{self.path}: no id there is one of the exam's questions",
                hint=f"there: {_some(known)}; the exam has: {_some(item.id for item in items)}\n"
                "without an id in any row, answers are taken by their order",
            )
        if found < len(items):
            report.note(f"{self.path} has no answer to {len(items) - found:,} of {len(items):,} questions: left empty")
        if found < len(known):
            report.note(f"{self.path}: {len(known) - found:,} answers are to other questions, and left out")
        return [known.get(item.id, "") for item in items]

    def _by_order(self, items: Sequence[Item], report: Report) -> list[str]:
        if len(self.answers) != len(items):
            raise DataError(
                f"{self.path} has {len(self.answers):,} answers without ids, the exam {len(items):,} questions",
                hint="give each answer the id of its question, or all in the order of the exam and without --limit",
            )
        report.note(f"{self.path} has no ids: its answers are taken to be in the order of the questions")
        pairs = list(zip(self.answers, items, strict=True))
        labels = [(given.label, item.reference) for given, item in pairs]
        questions = [(given.question, item.prompt[-1].content if item.prompt else "") for given, item in pairs]
        if _all_differ(labels) or _all_differ(questions):
            report.note(f"{self.path}: no row is about the question in its place; are they in another order?")
        return [given.text for given in self.answers]


class FileSpeaker:
    """A `Speaker` that says what a file holds, when it is asked for all of it, in order.

    It sees prompts and no ids, so that it must be asked exactly those that the answers were matched with.
    """

    def __init__(self, path: Path, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> None:
        self._path, self._prompts, self._answers = path, [tuple(prompt) for prompt in prompts], list(answers)

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer to one of the prompts; raises UsageError for any other."""
        if tuple(messages) not in self._prompts:
            raise self._asked_otherwise()
        yield self._answers[self._prompts.index(tuple(messages))]

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """All answers; raises UsageError when the prompts are not all the items', in order."""
        if [tuple(prompt) for prompt in prompts] != self._prompts:
            raise self._asked_otherwise()
        advance(len(self._answers))
        return list(self._answers)

    def _asked_otherwise(self) -> UsageError:
        return UsageError(
            f"the exam asks more than each question once, and {self._path} answers nothing else",
            hint="leave out --shuffles and the like, or name a MODEL in place of --answers",
        )


def read_answers(path: Path) -> AnswersFile:
    """The answers in a file of JSON, JSON Lines, CSV, … or in the outcome of an exam.

    Raises DataError, with the line, for what cannot be read, a row without an answer, and an id that comes twice.
    """
    answers: list[Given] = []
    seen: dict[str, str] = {}
    columns: tuple[str, ...] = ()
    for raw in raw_files(path):
        for item in _rows(raw):
            where = f"{raw.name}:{item.line}" if item.line else f"{raw.name}: answer {item.number}"
            row = _checked(item, where)
            columns = columns or _answer_columns(row, where)
            given = _given(row, columns[0], item.key, where)
            if answers and bool(given.id) != bool(answers[0].id):
                raise DataError(f"{where}: {'an' if given.id else 'no'} id, unlike the rows before", hint=_EXPECTED)
            if given.id and (first := seen.setdefault(given.id, where)) != where:
                raise DataError(f"{where}: a second answer to {given.id}, after {first}", hint=_EXPECTED)
            answers.append(given)
    if not answers:
        raise DataError(f"{path} holds no answer", hint=_EXPECTED)
    return AnswersFile(path=path, answers=tuple(answers), columns=columns)


_EXPECTED = 'one answer to a question, as {"id": "…", "answer": "…"}'


def _rows(raw: RawFile) -> Iterator[RawItem]:
    """The rows of a file; of an exam's outcome, which is one object, those of its answers."""
    outcome = _outcome(raw) if format_of(raw) == "json" else []
    if outcome:
        yield from (RawItem(line=0, number=number, value=row) for number, row in enumerate(outcome, 1))
    else:
        yield from items(raw)


def _outcome(raw: RawFile) -> list[Any]:
    """The `answers` in a file that is one object; it may be larger than one value of raw data."""
    with open_text(raw, encoding_of(raw)) as file:
        head = file.read(_HEAD).lstrip("\ufeff").lstrip()
        if not head.startswith("{"):
            return []
        text = head + file.read()
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):  # told, with its line, by who reads it as rows
        return []
    answers = table.get("answers")
    return answers if isinstance(answers, list) else []


def _checked(item: RawItem, where: str) -> Mapping[str, Any]:
    if item.reason or not isinstance(item.value, Mapping):
        raise DataError(f"{where}: {item.reason or 'not an object with columns'}", hint=_EXPECTED)
    return item.value


def _answer_columns(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The columns of the first row that may hold answers, the likeliest first; raises DataError without one."""
    if there := _called(_ANSWERS, row):
        return tuple(there)
    raise DataError(
        f"{where}: no column of answers; there is {', '.join(row) or 'none'}",
        hint=f"call it one of {', '.join(_ANSWERS)}",
    )


def _called(names: Sequence[str], row: Mapping[str, Any]) -> list[str]:
    """The columns with one of the names, in the order of the names: "Model Answer" is model_answer."""
    there = {re.sub(r"[\s-]+", "_", column.strip().lower()): column for column in row}
    return [there[name] for name in names if name in there]


def _given(row: Mapping[str, Any], answer: str, key: str, where: str) -> Given:
    """The answer in the column `answer`; `key` is what a table of rows by number calls the row."""
    if answer not in row:
        raise DataError(f"{where}: no '{answer}', unlike the rows before", hint=_EXPECTED)
    try:
        text = as_text(row[answer], answer)
        id = next((as_text(row[name], name).strip() for name in _called(_IDS, row)), "")
    except Refused as reason:
        raise DataError(f"{where}: {reason}", hint=_EXPECTED) from reason
    return Given(
        text=text.encode("utf-8", "replace").decode("utf-8"),  # half a character cannot be written down
        id=id or key,
        **{column: row[column] for column in _TELLING if isinstance(row.get(column), str)},
    )


def _all_differ(pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether there are pairs of texts, and in no pair one text holds the other."""
    both = [(normal(one), normal(other)) for one, other in pairs if one and other]
    return bool(both) and not any(one in other or other in one for one, other in both)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (", …" if len(listed) > _SHOWN else "")
