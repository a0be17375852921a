"""The patients of the dialogue exam: what each says unasked and when asked, and what a good doctor arrives at."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medcli.core.resources import templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """Something doctors ask for: the words of such a question, and what a patient says who has nothing of it.

    `none` is "" for what nobody can lack, such as an age: there a patient can only not know.
    """

    name: str
    words: tuple[str, ...]
    none: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a patient knows: the words of a question that asks for it, and what the patient then says."""

    words: tuple[str, ...]
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A patient's file.

    `concern` is what the patient wants to know. What a `complete` file does not hold is not so; of any other it is not
    known. `diagnosis`, `advice` and `harmful` are what rules look for in a doctor's words, "/" between words for the
    same thing; a case without them is compared with the reference as a whole. `urgent`: it cannot wait.
    """

    id: str
    opening: str
    facts: tuple[Fact, ...]
    reference: str
    department: str = ""
    concern: str = ""
    urgent: bool = False
    diagnosis: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    harmful: tuple[str, ...] = ()
    complete: bool = False

    @property
    def told(self) -> str:
        """All that the patient knows, a fact a line."""
        return "\n".join(f"- {says}" for says in (self.opening, *(fact.says for fact in self.facts)))


def cases_path() -> Path:
    """The cases that come with `med`."""
    return templates() / "exams" / "dialogue.toml"


@cache
def shipped() -> tuple[Case, ...]:
    """The cases that come with `med`, in order."""
    by_name = {topic.name: topic for topic in topics()}
    return tuple(_case(row, by_name) for row in _tables()["case"])


@cache
def topics() -> tuple[Topic, ...]:
    """What doctors ask for, in words of everyday Chinese."""
    return tuple(Topic(name=row["name"], words=tuple(row["words"]), none=row["none"]) for row in _tables()["topic"])


def _case(row: Mapping[str, Any], by_name: Mapping[str, Topic]) -> Case:
    facts = (Fact(words=_words(fact["topics"], by_name), says=fact["says"]) for fact in row["facts"])
    return Case(
        id=row["id"],
        opening=row["opening"],
        facts=tuple(facts),
        reference=row["reference"],
        department=row["department"],
        concern=row["concern"],
        urgent=row.get("urgent", False),
        diagnosis=tuple(row["diagnosis"]),
        advice=tuple(row["advice"]),
        harmful=tuple(row["harmful"]),
        complete=True,
    )


def _words(names: Iterable[str], by_name: Mapping[str, Topic]) -> tuple[str, ...]:
    """The words of topics that are named, and words of the case's own."""
    words = (word for name in names for word in (by_name[name].words if name in by_name else (name,)))
    return tuple(dict.fromkeys(words))


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(cases_path().read_text("utf-8"))
