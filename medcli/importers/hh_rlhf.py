"""hh-rlhf: whole dialogues as text, chosen and rejected, that differ in the last answer only."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, needed_text, rows_of
from medcli.core.record import Message, Preference, Role, Row

HELP = 'hh-rlhf\'s chosen and rejected, each a whole dialogue as text: "\\n\\nHuman: …\\n\\nAssistant: …"'
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def fits(peek: Peek) -> int:
    """Whether both columns hold dialogues as text."""
    texts = [peek.first(column) for column in ("chosen", "rejected")]
    return 92 if all(isinstance(text, str) and text.startswith("\n\nHuman:") for text in texts) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One preference per row: the turns that both share are the prompt."""
    return rows_of(source, lambda row, id: _record(row, id, options.source))


def _record(row: Mapping[str, Any], id: str, source: str) -> Preference:
    chosen, rejected = (_turns(needed_text(row, column)) for column in ("chosen", "rejected"))
    if chosen == rejected:
        raise Refused("the better and the worse answer are the same")
    if chosen[:-1] != rejected[:-1]:
        raise Refused("the dialogues differ before the last answer")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise Refused("does not end with an answer")
    answers = (chosen[-1].content, rejected[-1].content)
    return Preference(id=id, prompt=chosen[:-1], chosen=answers[0], rejected=answers[1], source=source)


def _turns(text: str) -> tuple[Message, ...]:
    before, *parts = _TURN.split(text)
    if before.strip() or not parts:
        raise Refused("broken dialogue: it does not begin with a turn of Human or Assistant")
    turns = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message(role=_ROLES[speaker], content=content.strip()) for speaker, content in turns)
