"""Instruction, input, output: the Alpaca columns, with an optional history; two outputs are a preference."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, as_text, history_of, joined, needed_text, rows_of, text_of
from medcli.core.record import Conversation, Message, Preference, Record, Row

HELP = "instruction/input/output, optional history [[question, answer], …] and system; output [better, worse]"
_USUAL = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "system": "system",
}


def fits(peek: Peek) -> int:
    """Whether there is an instruction and an output."""
    return 60 if {"instruction", "output"} <= set(peek.columns) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One conversation, or preference, per row."""
    columns = options.columns_or(_USUAL)
    return rows_of(source, lambda row, id: _record(row, id, columns, options.source))


def _record(row: Mapping[str, Any], id: str, columns: Mapping[str, str], source: str) -> Record:
    prompt = [*_before(row, columns), Message(role="user", content=_question(row, columns))]
    response = columns.get("response", "")
    if not response or response not in row:
        raise Refused(f"missing column: '{response or 'response'}'")
    answers = row[response]
    if isinstance(answers, list) and len(answers) == 2:
        chosen, rejected = (as_text(answer, response) for answer in answers)
        return Preference(id=id, prompt=tuple(prompt), chosen=chosen, rejected=rejected, source=source)
    answer = Message(role="assistant", content=as_text(answers, response))
    return Conversation(id=id, messages=(*prompt, answer), source=source)


def _question(row: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """Prompt and query, one a line; either may be empty."""
    if not columns.get("prompt"):
        raise Refused("missing column: 'prompt'")
    query = text_of(row, columns["query"]) if "query" in columns else ""
    return joined(needed_text(row, columns["prompt"]), query)


def _before(row: Mapping[str, Any], columns: Mapping[str, str]) -> Iterator[Message]:
    system = text_of(row, columns["system"]) if "system" in columns else ""
    if system.strip():
        yield Message(role="system", content=system)
    yield from history_of(row.get(columns.get("history", "")))
