"""Figures of a built data set: how many turns, and how long the texts are."""

from array import array
from collections import Counter
from dataclasses import dataclass

from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.fingerprint import content_of
from medcli.core.record import Conversation, Document, Preference, Question, Record

PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitStats:
    """One split. `turns`: answers in a record -> records. `lengths`: percentile -> characters in a record."""

    split: str
    records: int
    turns: dict[int, int]
    lengths: dict[int, int]


def stats(dataset: DatasetFolder) -> list[SplitStats]:
    """The figures of each split, reading it once; 4 bytes a record are held."""
    return [_of_split(dataset, split) for split in SPLITS]


def _of_split(dataset: DatasetFolder, split: str) -> SplitStats:
    turns: Counter[int] = Counter()
    lengths = array("I")
    for record in dataset.records(split):
        turns[_answers(record)] += 1
        lengths.append(min(_length(record), 0xFFFFFFFF))
    ordered = sorted(lengths)
    # Nearest rank: the smallest length that so many percent of the records do not exceed.
    found = {p: ordered[max(0, -(-len(ordered) * p // 100) - 1)] for p in PERCENTILES} if ordered else {}
    return SplitStats(split=split, records=len(ordered), turns=dict(sorted(turns.items())), lengths=found)


def _answers(record: Record) -> int:
    match record:
        case Conversation():
            return sum(message.role == "assistant" for message in record.messages)
        case Preference():
            return 2
        case Document() | Question():
            return 1


def _length(record: Record) -> int:
    match record:
        case Conversation():
            return sum(len(message.content) for message in record.messages)
        case Preference():
            prompt = sum(len(message.content) for message in record.prompt)
            return prompt + max(len(record.chosen), len(record.rejected))
        case Document() | Question():
            return sum(len(part) for part in content_of(record))
