"""The table of diseases as preferences: the right answer against a wrong one of many kinds, for rm and DPO.

What is right is what the table says. Each kind of wrong answer is one that a model gives: another's values under this
disease's name, another's whole sentence, another attribute, one value swapped, a refusal although the fact is known, a
sentence that breaks off, and one that does not stop. Some are longer than the right answer and some shorter, about as
often, so that length alone tells nothing.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medcli.core.errors import DataError
from medcli.core.knowledge import ANSWER, Fact, complaints, facts, questions, unknown, unknown_answer
from medcli.core.peek import Peek
from medcli.core.raw import Source, raw_files
from medcli.core.raw_rows import ReadOptions
from medcli.core.record import Message, Preference, Row

HELP = "a table of diseases in TOML as preferences, right against wrong answers; taken only when named"
SEED = 42
MADE_UP = "made-up"  # what is said of a disease that the table does not hold
TRAIN = 12  # pairs for each fact, each in a phrasing of its own
VALID, VALID_UNKNOWN = 170, 30  # pairs in phrasings of training, but not those trained on
TEST, TEST_UNKNOWN = 340, 60  # pairs in phrasings that are never trained on


def fits(peek: Peek) -> int:
    """Whether it is a table in TOML; `knowledge` fits better and must be overruled by name."""
    return 50 if peek.file.endswith(".toml") else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """Pairs for every fact, and for what the table does not hold.

    A source, and the end of an id, say how the worse answer is wrong: so each kind can be counted by itself.
    """
    table, *others = (raw.path for raw in raw_files(source))
    if others:
        raise DataError(f"{source} holds {1 + len(others)} files", hint="name the one that is the table of diseases")
    pairs = _Pairs(table=table, source=options.source, known=tuple(facts(table)), chance=random.Random(SEED))
    yield from _of_known(pairs)
    yield from _of_unknown(pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """What every pair is made from."""

    table: Path
    source: str
    known: tuple[Fact, ...]
    chance: random.Random

    def of_fact(self, fact: Fact, question: str, split: str, number: int) -> Row:
        """The table's sentence against a wrong one of a kind that is drawn.

        Kinds that took turns would examine each fact in the one kind that it was never trained in.
        """
        kind = self.chance.choice(_DRAWN)
        rejected = _WRONG[kind](fact, self.known, self.chance)
        return self.row(fact, question, (fact.say(ANSWER), rejected), split, (str(number), kind))

    def of_unknown(self, fact: Fact, question: str, split: str) -> Row:
        """The honest answer against a made-up one, with the values of some disease of the table."""
        donor = self.chance.choice([other for other in self.known if other.attribute == fact.attribute])
        return self.row(fact, question, (unknown_answer(), _with(fact, donor.values)), split, (MADE_UP,))

    def row(self, fact: Fact, question: str, answers: tuple[str, str], split: str, kind: Sequence[str]) -> Row:
        """The pair as a row; what a grammar makes is alike on purpose. `kind` ends with how the worse one is wrong."""
        prompt = (Message(role="user", content=question),)
        id = "-".join((fact.disease, fact.attribute, split, *kind))
        source = f"{self.source}/{kind[-1]}"
        record = Preference(id=id, prompt=prompt, chosen=answers[0], rejected=answers[1], source=source)
        return Row(file=self.table.name, line=fact.line, record=record, split=split, text=question, made=True)


def _of_known(pairs: _Pairs) -> Iterator[Row]:
    valid, test = (_drawn(pairs, pairs.known, count) for count in (VALID, TEST))
    for index, fact in enumerate(pairs.known):
        *trained, kept = questions(fact, TRAIN + 1)
        for number, question in enumerate(trained):
            yield pairs.of_fact(fact, question, "train", number)
        if index in valid:
            yield pairs.of_fact(fact, kept, "valid", TRAIN)
        if index in test:
            (question,) = questions(fact, 1, held_out=True)
            yield pairs.of_fact(fact, question, "test", TRAIN + 1)


def _of_unknown(pairs: _Pairs) -> Iterator[Row]:
    trained, examined = (list(unknown(held_out)) for held_out in (False, True))
    valid, test = _drawn(pairs, trained, VALID_UNKNOWN), _drawn(pairs, examined, TEST_UNKNOWN)
    for index, fact in enumerate(trained):
        question, kept = questions(fact, 2)
        yield pairs.of_unknown(fact, question, "train")
        if index in valid:
            yield pairs.of_unknown(fact, kept, "valid")
    for index in sorted(test):
        (question,) = questions(examined[index], 1, held_out=True)
        yield pairs.of_unknown(examined[index], question, "test")
    for number, complaint in enumerate(complaints()):
        other = pairs.chance.choice(pairs.known)
        none = Fact(disease="complaint", attribute=str(number), values=(), line=1)
        yield pairs.row(none, complaint, (unknown_answer(), other.say(ANSWER)), "train", (MADE_UP,))


def _drawn(pairs: _Pairs, those: Sequence[Fact], count: int) -> set[int]:
    """The places of `count` facts, or of all where there are fewer."""
    return set(pairs.chance.sample(range(len(those)), min(count, len(those))))


def _with(fact: Fact, values: Sequence[str]) -> str:
    """The sentence about this fact with other values in it."""
    return Fact(disease=fact.disease, attribute=fact.attribute, values=tuple(values), line=fact.line).say(ANSWER)


_Wrong = Callable[[Fact, Sequence[Fact], random.Random], str]


def _stranger(fact: Fact, known: Sequence[Fact], chance: random.Random) -> Fact:
    """The same attribute of another disease that shares no value with this one."""
    others = [other for other in known if other.attribute == fact.attribute and not {*other.values} & {*fact.values}]
    if not others:
        raise DataError(
            f"the table says the same of every disease: {fact.attribute}", hint="add diseases that differ in it"
        )
    return chance.choice(others)


def _values_of_another(fact: Fact, known: Sequence[Fact], chance: random.Random) -> str:
    return _with(fact, _stranger(fact, known, chance).values)


def _another_disease(fact: Fact, known: Sequence[Fact], chance: random.Random) -> str:
    return _stranger(fact, known, chance).say(ANSWER)


def _another_attribute(fact: Fact, known: Sequence[Fact], chance: random.Random) -> str:
    own = [other for other in known if other.disease == fact.disease and other.attribute != fact.attribute]
    return chance.choice(own).say(ANSWER) if own else _another_disease(fact, known, chance)


def _nothing_right(fact: Fact, known: Sequence[Fact], chance: random.Random) -> str:
    """A true sentence about another disease, and about something else of it."""
    stranger = _stranger(fact, known, chance)
    return _another_attribute(stranger, known, chance)


def _one_value_swapped(fact: Fact, known: Sequence[Fact], chance: random.Random) -> str:
    values = list(fact.values)
    values[chance.randrange(len(values))] = chance.choice(_stranger(fact, known, chance).values)
    return _with(fact, values)


def _refused(fact: Fact, known: Sequence[Fact], chance: random.Random) -> str:
    return unknown_answer()


def _broken_off(fact: Fact, known: Sequence[Fact], chance: random.Random) -> str:
    """The right sentence up to a place in its values."""
    right = fact.say(ANSWER)
    values = len("、".join(fact.values))
    return right[: len(right) - 1 - chance.randint(1, values)]


def _does_not_stop(fact: Fact, known: Sequence[Fact], chance: random.Random) -> str:
    """The right values, and then a wrong one or two."""
    return _with(fact, (*fact.values, *_stranger(fact, known, chance).values[:2]))


_WRONG: dict[str, _Wrong] = {
    "values-of-another": _values_of_another,
    "another-disease": _another_disease,
    "another-attribute": _another_attribute,
    "nothing-right": _nothing_right,
    "one-value-swapped": _one_value_swapped,
    "refused": _refused,
    "broken-off": _broken_off,
    "does-not-stop": _does_not_stop,
}
_DRAWN = (*_WRONG, *("another-attribute",) * 3)  # the hardest to tell comes most often
