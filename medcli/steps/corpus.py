"""The text of a corpus, passage by passage: what vocabularies are measured on and learn from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medcli.core.dataset_folder import SPLITS, DatasetFolder, built_names, open_dataset
from medcli.core.fingerprint import fingerprint
from medcli.core.manifest import MANIFEST
from medcli.core.raw import raw_files
from medcli.core.record import Conversation, Document, Preference, Question, Record
from medcli.steps.find_data import Found, find

_HELD_SHARE = 0.1  # of a raw file's texts, and of a data set without valid and test
_HELD_CHARACTERS = 1_000_000
_LEARN_BYTES = 24_000_000  # of text: 8 million Chinese characters, some 300 MB of memory
_WHOLE = 1 << 64  # fingerprints are below it


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One text of a record; `split` is "all" where there is none."""

    split: str
    source: str
    text: str


def opened(corpus: str) -> DatasetFolder | Found:
    """A built data set by its name or folder, or raw files; raises what finding them does."""
    if corpus in built_names() or (Path(corpus) / MANIFEST).is_file():
        return open_dataset(corpus)
    return find(corpus, None, "", "")


def passages_of(source: DatasetFolder | Found) -> Iterator[Passage]:
    """Every text, whoever wrote it, in order."""
    if isinstance(source, DatasetFolder):
        for split in SPLITS:
            for record in source.records(split):
                yield from _of_record(record, split)
        return
    for row in source.rows():
        if row.record is not None:
            yield from _of_record(row.record, row.split or "all")


def _of_record(record: Record, split: str) -> Iterator[Passage]:
    match record:
        case Conversation():
            texts = [message.content for message in record.messages]
        case Preference():
            texts = [*(message.content for message in record.prompt), record.chosen, record.rejected]
        case Document():
            texts = [record.text]
        case Question():
            texts = [record.stem, *record.choices]
    return (Passage(split=split, source=record.source, text=text) for text in texts if text)


def learnable(source: DatasetFolder | Found, held: list[str]) -> Iterator[str]:
    """The text to learn from; what is held out goes into `held`. Equal texts always go the same way.

    Held out are valid and test, else a share of the texts; of a large corpus a share is learnt from, so that memory
    is bounded.
    """
    parted = isinstance(source, DatasetFolder) and source.count("valid") + source.count("test") > 0
    share = min(1.0, _LEARN_BYTES / max(_size(source), 1))
    room = _HELD_CHARACTERS
    for passage in passages_of(source):
        if passage.split in ("valid", "test") if parted else _chance(passage.text, seed=1) < _HELD_SHARE:
            if room > 0:
                held.append(passage.text)
                room -= len(passage.text)
        elif share == 1 or _chance(passage.text, seed=2) < share:
            yield passage.text


def _chance(text: str, seed: int) -> float:
    """A number from 0 to 1 that the text decides."""
    return fingerprint(text, seed=seed) / _WHOLE


def _size(source: DatasetFolder | Found) -> int:
    """The bytes of the corpus, packed ones as they lie."""
    if isinstance(source, DatasetFolder):
        return source.file("train").stat().st_size
    return sum(path.stat().st_size for path in {raw.path for raw in raw_files(source.files())})
