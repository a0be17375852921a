"""A prompt with a better and a worse answer, for reward models and DPO."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw_rows import ReadOptions, Refused, as_text, joined, rows_of, text_of, turns_of
from medcli.core.record import Message, Preference, Role, Row

HELP = "prompt/chosen/rejected, question/response_chosen/response_rejected, or conversations/chosen/rejected"
_ANSWERS = (("chosen", "rejected"), ("response_chosen", "response_rejected"))
_PROMPTS = ("prompt", "question", "conversations", "messages", "instruction", "query")
_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def fits(peek: Peek) -> int:
    """Whether there are two answers and something they answer."""
    columns = set(peek.columns)
    return 90 if any(columns >= set(pair) for pair in _ANSWERS) and columns & set(_PROMPTS) else 0


def read(source: Path, options: ReadOptions) -> Iterator[Row]:
    """One preference per row."""
    return rows_of(source, lambda row, id: _record(row, id, options))


def _record(row: Mapping[str, Any], id: str, options: ReadOptions) -> Preference:
    given = (options.columns.get("chosen"), options.columns.get("rejected"))
    pairs = (given,) if given[0] and given[1] else _ANSWERS
    chosen, rejected = next((pair for pair in pairs if pair[0] in row and pair[1] in row), (None, None))
    if not chosen or not rejected:
        raise Refused(f"missing column: '{pairs[0][0]}' and '{pairs[0][1]}'")
    before = [Message(role="system", content=text_of(row, "system"))] if row.get("system") else []
    prompt = (*before, *_prompt(row, options.columns))
    answers = (_answer(row[chosen], chosen), _answer(row[rejected], rejected))
    return Preference(id=id, prompt=prompt, chosen=answers[0], rejected=answers[1], source=options.source)


def _prompt(row: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    names = tuple(filter(None, (columns.get("prompt"), columns.get("messages")))) or _PROMPTS
    column = next((name for name in names if name in row), "")
    if not column:
        raise Refused(f"missing column: '{names[0]}'")
    if isinstance(row[column], list) and row[column] and isinstance(row[column][0], Mapping):
        return _turns(row[column])
    query = columns.get("query", "") if columns else "input"
    question = joined(text_of(row, column), text_of(row, query))
    return (Message(role="user", content=question),)


def _answer(value: Any, column: str) -> str:
    """An answer as text, as one turn, or as a list of one turn."""
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        turns = _turns(value)
        if len(turns) != 1 or turns[0].role != "assistant":
            raise Refused(f"not one answer: '{column}'")
        return turns[0].content
    return as_text(value, column)


def _turns(turns: list[Any]) -> tuple[Message, ...]:
    if "from" in turns[0]:
        return turns_of(turns, "from", "value", _ROLES)
    return turns_of(turns, "role", "content", _ROLES)
