"""Figures of a built data set, read once: records, turns, lengths, languages, and what a cutoff would cost."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medcli.core.batches import batches
from medcli.core.chat_template import Segment
from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.distribution import Distribution, merged
from medcli.core.errors import UsageError
from medcli.core.known_datasets import KnownDataset, known_datasets
from medcli.core.model_ref import resolve
from medcli.core.record import Conversation, Document, Message, Preference, Question, Record
from medcli.core.report import Report, Silent
from medcli.steps.refused_rows import refused_examples

if TYPE_CHECKING:
    from medcli.engine.pack import Example

DEPARTMENTS = 20  # named; the rest is counted together
MOSTLY_HAN, SOME_HAN, NO_HAN = "mostly Han", "some Han", "no Han"
_BATCH = 1000  # records
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")
_SILENT = Silent()


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitStats:
    """One split. `turns`: answers in a record; `characters` and `tokens`: length of a record."""

    split: str
    turns: Distribution
    characters: Distribution
    tokens: Distribution = field(default_factory=Distribution)

    @property
    def records(self) -> int:
        return self.turns.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What does not fit into `max_length` units when the oldest exchanges are dropped first, as training does.

    Of `records`, `shortened` lose exchanges and `unanswered` keep no whole answer, so that training leaves them out.
    `answers` are the units in all answers, `lost` those of them that fall away.
    """

    max_length: int
    unit: str
    records: int = 0
    shortened: int = 0
    unanswered: int = 0
    answers: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """All figures of a data set. `han` is the share of Han characters among letters; `model` counted the tokens.

    `languages`: how much of a record is Han -> records. `departments`: the most frequent ones, "" where none is given.
    """

    splits: tuple[SplitStats, ...]
    sources: Mapping[str, int]
    departments: Mapping[str, int]
    languages: Mapping[str, int]
    han: float
    model: str = ""
    cut: Cut | None = None

    @property
    def turns(self) -> Distribution:
        return merged(part.turns for part in self.splits)

    @property
    def characters(self) -> Distribution:
        return merged(part.characters for part in self.splits)

    @property
    def tokens(self) -> Distribution:
        return merged(part.tokens for part in self.splits)


class _Measure(Protocol):
    """A unit of length."""

    unit: str

    def sizes(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        """(length, length of the answers in it) of each record."""

    def kept(self, record: Conversation, max_length: int) -> int:
        """The length of the answers that stay in a record longer than `max_length`; 0 when none does."""


def stats(
    dataset: DatasetFolder, *, tokens: str = "", max_length: int | None = None, report: Report = _SILENT
) -> Stats:
    """Count a data set in one pass; what is held grows with the number of different lengths, not of records.

    `tokens` names a model to count tokens of. Raises UsageError for `max_length` where nothing is cut, ModelError.
    """
    if max_length is not None and dataset.kind != "conversation":
        raise UsageError(
            f"{dataset.name} holds {dataset.kind}s, and only conversations are cut at --max-length",
            hint="leave out --max-length",
        )
    characters = _Characters()
    tally = _Tally(characters, _Tokens(tokens, report) if tokens else characters, max_length)
    report.stage(f"counting {dataset.manifest['name']}", int(dataset.manifest["counts"]["kept"]), "records")
    splits = tuple(tally.split(dataset, split, report) for split in SPLITS)
    return Stats(
        splits=splits,
        sources=_ranked(tally.sources),
        departments=_ranked(tally.departments) if set(tally.departments) != {""} else {},
        languages={name: tally.languages[name] for name in (MOSTLY_HAN, SOME_HAN, NO_HAN)},
        han=tally.han / tally.letters if tally.letters else 0.0,
        model=_shown(tokens),
        cut=None if max_length is None else Cut(max_length=max_length, unit=tally.measure.unit, **tally.cut),
    )


def known_as(dataset: DatasetFolder) -> KnownDataset | None:
    """The set known by name that this one was built from."""
    return known_datasets().get(dataset.manifest.get("known", ""))


def commercial_use(dataset: DatasetFolder) -> str:
    """What the licence of a set known by name says about commercial use: yes, no or unknown."""
    known = known_as(dataset)
    return known.commercial if known else "unknown"


def duplicates(dataset: DatasetFolder) -> dict[str, int]:
    """How a refused row repeats another -> rows: wholly, nearly, or by asking a question of another split."""
    refused: dict[str, int] = dataset.manifest["refused"]
    return {
        "exact duplicates": refused.get("exact duplicate", 0),
        "near-duplicates": refused.get("near-duplicate", 0),
        "question in another split": sum(count for reason, count in refused.items() if "same question is" in reason),
    }


def leading(counts: Mapping[str, int], most: int = DEPARTMENTS) -> tuple[dict[str, int], int]:
    """The first `most` names of ranked counts, and the sum of the others."""
    return dict(islice(counts.items(), most)), sum(islice(counts.values(), most, None))


def as_table(dataset: DatasetFolder, figures: Stats) -> dict[str, Any]:
    """Everything that is known, for JSON."""
    manifest = dataset.manifest
    return {
        **{key: manifest[key] for key in ("name", "kind", "licence")},
        "commercial": commercial_use(dataset),
        "counts": manifest["counts"],
        "refused": manifest["refused"],
        "changed": manifest.get("changed", {}),
        "duplicates": duplicates(dataset),
        "splits": {part.split: _split_table(part, figures.model) for part in figures.splits},
        "model": figures.model,
        "cut": figures.cut and asdict(figures.cut),
        "sources": figures.sources,
        "departments": figures.departments,
        "languages": figures.languages,
        "han": figures.han,
        "examples": {reason: [asdict(row) for row in rows] for reason, rows in refused_examples(dataset).items()},
    }


def _split_table(part: SplitStats, model: str) -> dict[str, Any]:
    table = {
        "records": part.records,
        "turns": dict(sorted(part.turns.counts.items())),
        "characters": part.characters.percentiles,
    }
    return table | {"tokens": part.tokens.percentiles} if model else table


class _Tally:
    """What is counted over all splits. `measure` says what is cut: tokens where a model is named."""

    def __init__(self, characters: "_Characters", measure: _Measure, max_length: int | None) -> None:
        self.characters, self.measure, self.max_length = characters, measure, max_length
        self.sources: Counter[str] = Counter()
        self.departments: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.han = self.letters = self.done = 0

    def split(self, dataset: DatasetFolder, name: str, report: Report) -> SplitStats:
        turns: Counter[int] = Counter()
        lengths: dict[str, Counter[int]] = {}
        for batch in batches(dataset.records(name), _BATCH):
            turns.update(map(_answers, batch))
            self.sources.update(record.source for record in batch)
            self._texts(batch)
            for measure in dict.fromkeys((self.characters, self.measure)):
                sizes = measure.sizes(batch)
                lengths.setdefault(measure.unit, Counter()).update(whole for whole, _ in sizes)
            if self.max_length is not None:
                self._cut(batch, sizes, self.max_length)
            self.done += len(batch)
            report.advance(self.done)
        by_unit = {unit: Distribution(counts=counts) for unit, counts in lengths.items()}
        return SplitStats(split=name, turns=Distribution(counts=turns), **({"characters": Distribution()} | by_unit))

    def _texts(self, batch: Sequence[Record]) -> None:
        for record in batch:
            if isinstance(record, Conversation):
                self.departments[record.meta.get("department", "")] += 1
            text = "".join(_parts(record))
            rest = _HAN.sub("", text)
            han, others = len(text) - len(rest), sum(map(str.isalpha, rest))
            self.han += han
            self.letters += han + others
            self.languages[NO_HAN if not han else MOSTLY_HAN if han >= others else SOME_HAN] += 1

    def _cut(self, batch: Sequence[Record], sizes: Sequence[tuple[int, int]], max_length: int) -> None:
        self.cut["records"] += len(batch)
        for record, (whole, answers) in zip(batch, sizes, strict=True):
            self.cut["answers"] += answers
            if whole > max_length and isinstance(record, Conversation):
                kept = self.measure.kept(record, max_length)
                self.cut["shortened" if kept else "unanswered"] += 1
                self.cut["lost"] += answers - kept


class _Characters:
    """Length in characters of the texts, without what a template adds."""

    unit = "characters"

    def sizes(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        return list(map(_characters, records))

    def kept(self, record: Conversation, max_length: int) -> int:
        system = [message for message in record.messages[:1] if message.role == "system"]
        room = max_length - sum(len(message.content) for message in system)
        kept = answers = 0
        for message in reversed(record.messages[len(system) :]):
            room -= len(message.content)
            if room < 0:
                break
            answers += len(message.content) if message.role == "assistant" else 0
            kept = answers if message.role == "user" else kept
        return kept


class _Tokens:
    """Length in tokens of a model, with what its chat template adds."""

    unit = "tokens"

    def __init__(self, model: str, report: Report) -> None:
        from medcli.engine.load import load_tokenizer

        self._tokenizer, self._template = load_tokenizer(resolve(model), report)

    def sizes(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        from medcli.engine.encode import encode

        lessons = [self._lessons(record) for record in records]
        examples = iter(encode(list(chain(*lessons)), self._tokenizer))
        return [_size([next(examples) for _ in each]) for each in lessons]

    def kept(self, record: Conversation, max_length: int) -> int:
        from medcli.engine.encode import Losses, encode_all

        fitting = encode_all([record], self._template, self._tokenizer, max_length=max_length, losses=Losses())
        return sum(int(example.trained.sum()) for example in fitting)

    def _lessons(self, record: Record) -> list[list[Segment]]:
        match record:
            case Conversation():
                return [self._template.render(lesson) for lesson in self._template.lessons(record.messages)]
            case Preference():
                answer = Message(role="assistant", content=_longer(record))
                return [self._template.render([*record.prompt, answer])]
            case Document() | Question():
                return [[Segment(text="\n".join(_parts(record)), trained=True)]]


def _size(lessons: Sequence["Example"]) -> tuple[int, int]:
    return max(len(lesson.ids) for lesson in lessons), sum(int(lesson.trained.sum()) for lesson in lessons)


def _answers(record: Record) -> int:
    match record:
        case Conversation():
            return sum(message.role == "assistant" for message in record.messages)
        case Preference():
            return 2
        case Document() | Question():
            return 1


def _characters(record: Record) -> tuple[int, int]:
    match record:
        case Conversation():
            answers = sum(len(message.content) for message in record.messages if message.role == "assistant")
            return sum(len(message.content) for message in record.messages), answers
        case Preference():
            answer = len(_longer(record))
            return sum(len(message.content) for message in record.prompt) + answer, answer
        case Document() | Question():
            whole = sum(map(len, _parts(record)))
            return whole, whole if isinstance(record, Document) else len(record.answer)


def _longer(record: Preference) -> str:
    """The answer that a pair's length is counted with."""
    return max(record.chosen, record.rejected, key=len)


def _parts(record: Record) -> list[str]:
    """The texts of a record, without who says them."""
    match record:
        case Conversation():
            return [message.content for message in record.messages]
        case Preference():
            return [*(message.content for message in record.prompt), record.chosen, record.rejected]
        case Document():
            return [record.text]
        case Question():
            return [record.stem, *record.choices, record.answer]


def _ranked(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _shown(model: str) -> str:
    """A model as a report names it: of a folder only its name, which is the same on every machine."""
    return Path(model).resolve().name if model and Path(model).exists() else model
