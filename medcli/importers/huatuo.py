"""Huatuo: JSON Lines in a file called .json, instruction/input/output; or lists of questions and answers."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import (
    ReadOptions,
    Refused,
    as_text,
    joined,
    needed_text,
    rows_of,
    single_turn,
    text_of,
)
from medcli.core.record import Record, Row

HELP = "Huatuo's JSON Lines named .json (instruction/input/output), and Huatuo-26M's questions/answers lists"


def fits(peek: Peek) -> int:
    """Whether these are Huatuo's lists, or its Alpaca columns as lines of a .json file."""
    columns = set(peek.columns)
    if {"questions", "answers"} <= columns:
        return 80
    named_json = peek.file.removesuffix(".gz").endswith(".json") and peek.format == "json lines"
    return 65 if named_json and columns == {"instruction", "input", "output"} and not _has_lists(peek) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question and its answer per row."""
    return rows_of(source, lambda row, id: _record(row, id, options.source))


def _has_lists(peek: Peek) -> bool:
    """Two outputs are a preference, which the alpaca importer reads."""
    return any(isinstance(row.get("output"), list) for row in peek.rows)


def _record(row: Mapping[str, Any], id: str, source: str) -> Record:
    if "questions" in row:
        return _of_lists(row, id, source)
    question = joined(needed_text(row, "instruction"), text_of(row, "input"))
    return single_turn(id, source, question, needed_text(row, "output"))


def _of_lists(row: Mapping[str, Any], id: str, source: str) -> Record:
    """The first wording is the question; with the others the same answer could stand in two splits."""
    wordings = [text for text in _texts(row["questions"], "questions") if text.strip()]
    answers = _texts(row.get("answers"), "answers")
    if not wordings or not answers:
        raise Refused("no question or no answer in the lists")
    meta = {"also_asked": "\n".join(wordings[1:])} if wordings[1:] else {}
    return single_turn(id, source, wordings[0], answers[0], meta)


def _texts(value: Any, what: str) -> list[str]:
    """The texts in a list, or in a list of lists, as the encyclopedia part has them."""
    if isinstance(value, list):
        flat = [inner for outer in value for inner in (outer if isinstance(outer, list) else [outer])]
        return [as_text(text, what) for text in flat]
    return [as_text(value, what)]
