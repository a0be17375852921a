"""The shipped table of diseases, and the many ways to ask for what stands in it."""

import hashlib
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from medcli.core.errors import DataError
from medcli.core.resources import templates

HELD_OUT = 40  # phrasings of which no training set ever sees one
ANSWER = "{d}的{a}有{values}。"
# How a fact stands in running text; the first form is also how it is answered.
SENTENCES = (ANSWER, "{values}是{d}的{a}。", "说到{d}，{a}包括{values}。")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One attribute of one disease. `line` is where the disease begins in the table."""

    disease: str
    attribute: str
    values: tuple[str, ...]
    line: int

    def say(self, form: str) -> str:
        """The fact in a sentence form with {d}, {a} and {values}."""
        return form.format(d=self.disease, a=self.attribute, values="、".join(self.values))


def table_path() -> Path:
    """The table of diseases that comes with `med`."""
    return templates() / "knowledge" / "diseases.toml"


def phrasings_path() -> Path:
    """How people ask, and what the table does not hold."""
    return templates() / "knowledge" / "phrasings.toml"


def tables(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line, table) of every `[[disease]]`; raises DataError when the file is no table of diseases."""
    try:
        text = path.read_text("utf-8")
        rows = tomllib.loads(text).get("disease")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: {error}", hint="a table of diseases is TOML in UTF-8: correct the place named"
        ) from error
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith("[[disease]]")]
    if not isinstance(rows, list) or len(rows) != len(lines):
        raise DataError(f"{path} is no table of diseases", hint="each disease begins with a line [[disease]]")
    return list(zip(lines, rows, strict=True))


def facts(path: Path) -> list[Fact]:
    """Every attribute of every disease in a table, in order; raises DataError."""
    names: dict[str, str] = _phrasings()["attributes"]
    found = []
    for line, row in tables(path):
        for key in names:
            value = row.get(key, [])
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise DataError(f"{path}:{line}: {key} is no list of texts", hint=f'write {key} = ["…", "…"]')
        if not isinstance(row.get("name"), str):
            raise DataError(f"{path}:{line}: a disease without a name", hint='write name = "…"')
        found += [
            Fact(disease=row["name"], attribute=names[key], values=tuple(row[key]), line=line)
            for key in names
            if row.get(key)
        ]
    return found


@cache
def phrasings(held_out: bool) -> tuple[str, ...]:
    """The forms of questions that are trained on, or the ones kept for examination."""
    table = _phrasings()
    every = ["".join(parts) for parts in product(table["openings"], table["middles"], table["endings"])]
    ordered = sorted(every, key=lambda form: hashlib.sha256(form.encode()).digest())
    return tuple(ordered[:HELD_OUT] if held_out else ordered[HELD_OUT:])


def unknown(held_out: bool) -> Iterator[Fact]:
    """Facts that are asked for and not there: every attribute of diseases that the table does not hold."""
    table = _phrasings()
    for name in table["unknown"]["held_out" if held_out else "names"]:
        for attribute in table["attributes"].values():
            yield Fact(disease=name, attribute=attribute, values=(), line=1)


def complaints() -> list[str]:
    """Questions that name no disease at all."""
    return list(_phrasings()["unknown"]["complaints"])


def unknown_answer() -> str:
    """What is said to all of them."""
    return str(_phrasings()["unknown"]["answer"])


def questions(fact: Fact, count: int, *, held_out: bool = False, seed: int = 42) -> Iterator[str]:
    """`count` different questions for a fact, always the same ones for the same seed."""
    chance = random.Random(f"{seed} {fact.disease} {fact.attribute} {held_out}")
    for form in chance.sample(phrasings(held_out), count):
        yield form.format(d=fact.disease, a=fact.attribute)


@cache
def _phrasings() -> dict[str, Any]:
    return tomllib.loads(phrasings_path().read_text("utf-8"))
