"""A table of diseases in TOML, such as the one that comes with `med`: every fact asked for in many ways."""

from collections.abc import Iterator
from pathlib import Path

from medcli.core.errors import DataError
from medcli.core.knowledge import ANSWER, Fact, complaints, facts, questions, unknown, unknown_answer
from medcli.core.peek import Peek
from medcli.core.raw import Source, raw_files
from medcli.core.raw_rows import ReadOptions, single_turn
from medcli.core.record import Row

HELP = "a table of diseases in TOML ([[disease]] name, symptoms, department, tests, treatment, drugs, cautions)"
UNKNOWN_PHRASINGS = 2
PHRASINGS = 12  # per fact, to train on; one each for valid and test is never trained on


def fits(peek: Peek) -> int:
    """Whether it is a table in TOML."""
    return 90 if peek.file.endswith(".toml") else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """A question in each of many phrasings for every fact, held-out phrasings first."""
    table, *others = (raw.path for raw in raw_files(source))
    if others:
        raise DataError(f"{source} holds {1 + len(others)} files", hint="name the one that is the table of diseases")
    for index, fact in enumerate(facts(table)):
        valid, test = questions(fact, 2, held_out=True)
        yield _row(table, fact, valid, f"{index}-valid", "valid", options.source)
        yield _row(table, fact, test, f"{index}-test", "test", options.source)
        for number, question in enumerate(questions(fact, PHRASINGS)):
            yield _row(table, fact, question, f"{index}-{number}", "train", options.source)
    yield from _unknown(table, options.source)


def _unknown(path: Path, source: str) -> Iterator[Row]:
    """What the table does not hold is asked for too, so that a model learns to say so."""
    for index, fact in enumerate(unknown(held_out=True)):
        (question,) = questions(fact, 1, held_out=True)
        yield _row(path, fact, question, f"unknown-{index}-test", "test", source)
    for index, fact in enumerate(unknown(held_out=False)):
        for number, question in enumerate(questions(fact, UNKNOWN_PHRASINGS)):
            yield _row(path, fact, question, f"unknown-{index}-{number}", "train", source)
    for index, question in enumerate(complaints()):
        record = single_turn(f"complaint-{index}", source, question, unknown_answer(), {})
        yield Row(file=path.name, line=1, record=record, split="train", text=question, made=True)


def _row(path: Path, fact: Fact, question: str, id: str, split: str, source: str) -> Row:
    answer = fact.say(ANSWER) if fact.values else unknown_answer()
    record = single_turn(id, source, question, answer, {})
    return Row(file=path.name, line=fact.line, record=record, split=split, text=question, made=True)
