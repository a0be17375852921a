"""The cases of the triage exam: what a patient says, what is right and why, and what the rules look for."""

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from medcli.core.errors import DataError
from medcli.core.record import Message, messages_of
from medcli.core.resources import templates
from medcli.core.triage_words import expression

Kind = Literal["red-flag", "benign", "contraindication", "refusal", "sycophancy", "unknown"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_TEXTS = ("id", "topic", "source", "why", "good", "bad")
_PATTERNS = ("drugs", "says", "unsafe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. `right` says for its whole kind how a right answer goes, `why` the medical reason for this one.

    `drugs`, `says` and `unsafe` are alternatives of regular expressions over an answer in half width: the names of what
    must be warned of, what shows that an answer is right, and what it must not assert. In a `crisis` a hotline or
    company is help too. `good` and `bad` are answers of both sorts.
    """

    id: str
    kind: Kind
    topic: str
    source: str
    messages: tuple[Message, ...]
    why: str
    right: str
    good: str
    bad: str
    drugs: str = ""
    says: str = ""
    unsafe: str = ""
    crisis: bool = False

    @property
    def asks(self) -> tuple[str, ...]:
        """What the patient says, turn by turn."""
        return tuple(message.content for message in self.messages if message.role == "user")


def cases_folder() -> Path:
    """One file of cases for each kind, and the words of the rules."""
    return templates() / "exams" / "triage"


@cache
def cases() -> tuple[Case, ...]:
    """All cases that come with `med`, kind by kind."""
    return tuple(case for kind in KINDS for case in read_cases(cases_folder() / f"{kind}.toml"))


def read_cases(path: Path) -> list[Case]:
    """The cases of a file; raises DataError with the line where one begins that is none."""
    try:
        text = path.read_text("utf-8")
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}", hint="cases are TOML in UTF-8: correct the place named") from error
    kind, right, rows = table.get("kind"), table.get("right"), table.get("case")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith("[[case]]")]
    if kind not in KINDS or not isinstance(right, str) or not isinstance(rows, list) or len(rows) != len(lines):
        raise DataError(
            f"{path} holds no cases of triage",
            hint=f"begin with kind = one of {', '.join(KINDS)} and right = …; each case begins with a line [[case]]",
        )
    return [_case(row, kind, right, f"{path}:{line}") for line, row in zip(lines, rows, strict=True)]


def balanced(every: Sequence[Case], limit: int | None, seed: int) -> list[Case]:
    """`limit` cases drawn in turn from each kind, so that a few still hold all kinds; in the order they had."""
    if limit is None or limit >= len(every):
        return list(every)
    draw = random.Random(seed)
    stacks = [[case for case in every if case.kind == kind] for kind in KINDS]
    turns = [(turn, place, case) for place, stack in enumerate(stacks) for turn, case in enumerate(_mixed(stack, draw))]
    taken = {case.id for _, _, case in sorted(turns, key=lambda row: row[:2])[:limit]}
    return [case for case in every if case.id in taken]


def _mixed(stack: Sequence[Case], draw: random.Random) -> list[Case]:
    return draw.sample(stack, len(stack))


def _case(row: Mapping[str, Any], kind: Kind, right: str, where: str) -> Case:
    known = {*_TEXTS, *_PATTERNS, "text", "messages", "crisis"}
    if unknown := sorted(row.keys() - known):
        raise DataError(f"{where}: unknown key {unknown[0]}", hint=f"known: {', '.join(sorted(known))}")
    if missing := [key for key in _TEXTS if not (isinstance(row.get(key), str) and row[key].strip())]:
        raise DataError(f"{where}: {missing[0]} is missing or no text", hint=f'write {missing[0]} = "…"')
    return Case(
        kind=kind,
        right=right,
        messages=_messages(row, where),
        crisis=row.get("crisis", False) is True,
        **{key: row[key].strip() for key in _TEXTS},
        **{key: _pattern(row, key, where) for key in _PATTERNS},
    )


def _messages(row: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    rows = row.get("messages") or [{"role": "user", "content": row.get("text")}]
    try:
        messages = messages_of(rows)
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{where}: {error}", hint='write text = "…" or messages = [{role = …, content = …}]') from error
    if messages[-1].role != "user":
        raise DataError(f"{where}: the last message is not the patient's", hint='end with one of role = "user"')
    return messages


def _pattern(row: Mapping[str, Any], key: str, where: str) -> str:
    try:
        text = "|".join(row.get(key, ()))
        expression(text, "")
    except (re.error, KeyError, TypeError) as error:
        raise DataError(
            f"{where}: {key} is no list of expressions: {error}", hint=f"write {key} = ['…', '…']"
        ) from error
    return text
