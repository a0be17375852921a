"""Prompts as users have them: JSON Lines, a JSON array, a table, or a text with one prompt a line."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from medcli.core.encoding import encoding_of
from medcli.core.errors import DataError, UsageError
from medcli.core.peek import format_of, items, text_lines
from medcli.core.raw import Item, RawFile, raw_files
from medcli.core.raw_rows import Refused, as_text, history_of, joined, text_of, turns_of
from medcli.core.record import Message, Role, message_rows
from medcli.core.report import Report

_DIALOGUES = ("messages", "conversation", "conversations")
_QUESTIONS = ("prompt", "question", "instruction", "query", "ask", "text", "input")
_REFERENCES = ("reference", "answer", "output", "response", "label", "completion", "target")
_OPTIONS = ("choices", "options")
_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SHOWN = 10  # faults in a message
_EXPECTED = f"""a row is {{"messages": [{{"role": …, "content": …}}, …]}}, or has one of {", ".join(_QUESTIONS)}
any other shape: med data build FILE --name NAME, then --dataset NAME"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A conversation that ends with a question, and the answer that is wanted; None where nobody says."""

    id: str | int
    messages: tuple[Message, ...]
    reference: str | None = None

    def as_row(self) -> dict[str, Any]:
        """Its columns, as they are written beside the answer."""
        return {"id": self.id, "messages": message_rows(self.messages), "reference": self.reference}


def prompts_in(path: Path, limit: int | None, report: Report) -> list[Prompt]:
    """The prompts in a file, at most `limit`; raises DataError as `read_prompts` does."""
    files = raw_files(path)
    if len(files) != 1 or path.is_dir():
        raise UsageError(f"{path} holds {len(files):,} data files", hint="name one of them")
    [raw] = files
    return read_prompts(raw if raw.member else replace(raw, name=str(path)), limit, report)


def read_prompts(raw: RawFile, limit: int | None, report: Report) -> list[Prompt]:
    """The prompts in a raw file, at most `limit`, in order; a row without an id has its line, or place, for one.

    Raises DataError that names up to ten rows which cannot be asked, with their lines and reasons.
    """
    prompts: list[Prompt] = []
    faults: list[str] = []
    number = line = 0
    for number, line, made in islice(_rows(raw), limit):  # noqa: B007
        if isinstance(made, Prompt):
            prompts.append(made)
        else:
            faults.append(f"{raw.name}:{line}: {made}")
    if faults:
        raise _unreadable(raw, faults)
    if not prompts:
        raise DataError(f"{raw.name} holds no prompt", hint=_EXPECTED)
    if format_of_prompts(raw) == "text" and line > number:
        report.note(f"{raw.name}: empty lines are no prompts and left out: {line - number:,}")
    return prompts


def format_of_prompts(raw: RawFile) -> str:
    """How the file is read: a .txt is plain text, whatever commas its first line has, unless it holds JSON."""
    form = format_of(raw)
    return "text" if form == "table" and raw.suffix not in (".csv", ".tsv") else form


def with_system(prompt: Prompt, system: str) -> Prompt:
    """The prompt opened by `system` instead of what opened it."""
    rest = [message for message in prompt.messages if message.role != "system"]
    return replace(prompt, messages=(Message(role="system", content=system), *rest))


def _rows(raw: RawFile) -> Iterator[tuple[int, int, Prompt | str]]:
    """The number and line of each row with its prompt, or the reason why it has none."""
    form = format_of_prompts(raw)
    found: Iterable[Item] = text_lines(raw, encoding_of(raw)) if form == "text" else items(raw)
    for item in found:
        try:  # the elements of an array may stand on one line
            yield item.number, item.line, _prompt(item, item.key or (item.number if form == "json" else item.line))
        except Refused as reason:
            yield item.number, item.line, str(reason)


def _prompt(item: Item, place: str | int) -> Prompt:
    if item.reason:
        raise Refused(item.reason)
    if isinstance(item.value, str):
        return _checked(Prompt(id=place, messages=_asking(item.value)))
    if not isinstance(item.value, Mapping):
        raise Refused("neither an object with columns nor a text")
    row = {name.strip().lower(): value for name, value in item.value.items()}
    for column in _OPTIONS:
        if row.get(column):
            raise Refused(f"a question with {column}, which `med data build` reads: then --dataset NAME")
    messages, reference = _dialogue(row)
    return _checked(Prompt(id=_id(row, place), messages=messages, reference=reference))


def _dialogue(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], str | None]:
    """What is asked and what is wanted; the last turn of a dialogue is wanted when it is an answer."""
    named = (name for name in _DIALOGUES if name in row)
    column = next(named, "prompt" if isinstance(row.get("prompt"), list) else "")
    if not column:
        return tuple(_turns(row)), _reference(row)
    messages = turns_of(row[column], "role", "content", _ROLES)
    if messages and messages[-1].role == "assistant":
        return messages[:-1], messages[-1].content
    return messages, _reference(row)


def _turns(row: Mapping[str, Any]) -> Iterator[Message]:
    column = next((name for name in _QUESTIONS if name in row), "")
    if not column:
        raise Refused(f"no question: there is {', '.join(row)[:80] or 'no column'}")
    system = text_of(row, "system")
    if system.strip():
        yield Message(role="system", content=system)
    yield from history_of(row.get("history"))
    asked = text_of(row, column)
    yield from _asking(asked if column == "input" else joined(asked, text_of(row, "input")))


def _asking(question: str) -> tuple[Message, ...]:
    return (Message(role="user", content=question.strip()),)


def _reference(row: Mapping[str, Any]) -> str | None:
    texts = (text_of(row, name) for name in _REFERENCES if name in row)
    return next((text for text in texts if text.strip()), None)


def _id(row: Mapping[str, Any], place: str | int) -> str | int:
    id = row.get("id")
    if isinstance(id, int) and not isinstance(id, bool):
        return id
    return as_text(id, "id").strip() or place


def _checked(prompt: Prompt) -> Prompt:
    """The prompt, when a model can be asked it."""
    messages = prompt.messages
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if not turns or turns[-1].role != "user":
        raise Refused("no question at the end of the dialogue")
    for index, turn in enumerate(turns, 1):
        expected = "user" if index % 2 else "assistant"
        if turn.role != expected:
            raise Refused(f"turn {index} is of '{turn.role}' where one of '{expected}' must stand")
    if not turns[-1].content.strip():
        raise Refused("the question is empty")
    try:
        json.dumps(prompt.as_row(), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused("half a character (a lone surrogate), which no file can hold") from error
    return prompt


def _unreadable(raw: RawFile, faults: list[str]) -> DataError:
    if len(faults) == 1:
        return DataError(faults[0], hint=f"nothing is asked until every row can be\n{_EXPECTED}")
    shown = "\n".join(faults[:_SHOWN])
    more = f"\n… and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
    return DataError(
        f"{raw.name}: {len(faults):,} rows cannot be asked, and nothing is until every row can be",
        hint=f"{shown}{more}\n{_EXPECTED}",
    )
