"""A table of diseases as running text: a paragraph says all that is known of one, in an order of its own."""

import random
from collections.abc import Iterator
from itertools import groupby

from medcli.core.errors import DataError
from medcli.core.knowledge import SENTENCES, Fact, facts
from medcli.core.peek import Peek
from medcli.core.raw import Source, raw_files
from medcli.core.raw_rows import ReadOptions
from medcli.core.record import Document, Row

HELP = "a table of diseases in TOML as paragraphs of plain text; taken only when named"
SEED = 42
PARAGRAPHS = 6  # on each disease, to read; one each for valid and test, in which nothing else is said otherwise


def fits(peek: Peek) -> int:
    """Whether it is a table in TOML; `knowledge` fits better and must be overruled by name."""
    return 40 if peek.file.endswith(".toml") else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """Paragraphs on each disease, held-out ones first."""
    table, *others = (raw.path for raw in raw_files(source))
    if others:
        raise DataError(f"{source} holds {1 + len(others)} files", hint="name the one that is the table of diseases")
    chance = random.Random(SEED)
    for disease, group in groupby(facts(table), key=lambda fact: fact.disease):
        known = list(group)
        for number, split in enumerate(["valid", "test", *["train"] * PARAGRAPHS]):
            text = _paragraph(known, chance)
            record = Document(id=f"{disease}-{number}", text=text, source=options.source)
            yield Row(file=table.name, line=known[0].line, record=record, split=split, text=text, made=True)


def _paragraph(known: list[Fact], chance: random.Random) -> str:
    """Every fact once, in any order and in any of its forms."""
    return "".join(fact.say(chance.choice(SENTENCES)) for fact in chance.sample(known, len(known)))
