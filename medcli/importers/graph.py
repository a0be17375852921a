"""A knowledge graph of diseases: every attribute of every disease asked for in several wordings."""

import random
from collections.abc import Iterator

from medcli.core.graph import Entity, dropped_rows, entities, is_graph
from medcli.core.graph_questions import answer, ask, split_of
from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, single_turn
from medcli.core.record import Row

HELP = "a knowledge graph: QASystemOnMedicalKG's medical.json, disease tables (name, checklist, …), CMeKG's 中心词"
WORDINGS = 3  # per attribute
_SHARES = {"valid": 0.03, "test": 0.03}


def fits(peek: Peek) -> int:
    """Whether its rows are diseases with attributes."""
    return 95 if is_graph(peek.columns) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """Questions and answers of every entity; those for validation and test are worded as none to train on is."""
    for number, entity in enumerate(entities(source), 1):
        if isinstance(entity, Row):
            yield entity
            continue
        yield from dropped_rows(entity)
        for attribute in entity.attributes:
            yield from _questions(entity, attribute, f"{options.source}-{number}-{attribute}", options.source)


def _questions(entity: Entity, attribute: str, id: str, source: str) -> Iterator[Row]:
    chance = random.Random(f"{entity.name} {attribute}")
    asked: set[str] = set()
    for number in range(WORDINGS):
        split = split_of(_SHARES, entity.name, attribute, number)
        question = ask(entity, attribute, split, chance)
        if question not in asked:
            record = single_turn(f"{id}-{number}", source, question, answer(entity, attribute), {})
            yield Row(file=entity.file, line=entity.line, record=record, split=split, text=question[:500], made=True)
        asked.add(question)
