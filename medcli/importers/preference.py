"""A prompt with a better and a worse answer, for reward models and DPO."""

from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, as_text, history_of, joined, rows_of, text_of, turns_of
from medcli.core.record import Message, Preference, Role, Row

HELP = "prompt (question, conversations, input.messages) with chosen/rejected or preferred_output; texts or dialogues"
_ANSWERS = (
    ("chosen", "rejected"),
    ("response_chosen", "response_rejected"),
    ("preferred_output", "non_preferred_output"),
)
_PROMPTS = ("prompt", "question", "conversations", "messages", "instruction", "query", "input")
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
    chosen = peek.first("chosen")
    asked = columns & set(_PROMPTS) or (isinstance(chosen, list) and len(chosen) > 1)
    return 90 if any(columns >= set(pair) for pair in _ANSWERS) and asked else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One preference per row."""
    return rows_of(source, lambda row, id: _record(row, id, options))


def _record(row: Mapping[str, Any], id: str, options: ReadOptions) -> Preference:
    given = (options.columns.get("chosen"), options.columns.get("rejected"))
    pairs = (given,) if given[0] and given[1] else _ANSWERS
    chosen, rejected = next((pair for pair in pairs if pair[0] in row and pair[1] in row), (None, None))
    if not chosen or not rejected:
        raise Refused(f"missing column: '{pairs[0][0]}' and '{pairs[0][1]}'")
    before = [Message(role="system", content=text_of(row, "system"))] if row.get("system") else []
    history = history_of(row.get(options.columns.get("history", "") if options.columns else "history"))
    better, worse = (_dialogue(row[name], name) for name in (chosen, rejected))
    if better[:-1] != worse[:-1]:
        raise Refused("the dialogues differ before the last answer")
    prompt = (*before, *history, *(better[:-1] or _prompt(row, options.columns)))
    answers = (better[-1].content, worse[-1].content)
    return Preference(id=id, prompt=prompt, chosen=answers[0], rejected=answers[1], source=options.source)


def _prompt(row: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    names = tuple(filter(None, (columns.get("prompt"), columns.get("messages")))) or _PROMPTS
    column = next((name for name in names if name in row), "")
    if not column:
        raise Refused(f"missing column: '{names[0]}'")
    value = row[column]
    if isinstance(value, Mapping):  # OpenAI's {"input": {"messages": […]}}
        value = value.get("messages")
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return _turns(value)
    query = columns.get("query", "") if columns else "input"
    question = joined(text_of(row, column), text_of(row, query))
    return (Message(role="user", content=question),)


def _dialogue(value: Any, column: str) -> tuple[Message, ...]:
    """An answer as text, as one turn, or at the end of a dialogue that repeats the prompt before it."""
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        turns = _turns(value)
        if turns[-1].role != "assistant":
            raise Refused(f"does not end with an answer: '{column}'")
        return turns
    return (Message(role="assistant", content=as_text(value, column)),)


def _turns(turns: list[Any]) -> tuple[Message, ...]:
    if "from" in turns[0]:
        return turns_of(turns, "from", "value", _ROLES)
    return turns_of(turns, "role", "content", _ROLES)
