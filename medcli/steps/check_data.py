"""Does a training set repeat what an exam or a test split asks?

The leak gate behind `med data check`, training and exams.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from medcli.core.atomic import writing
from medcli.core.batches import batches
from medcli.core.dataset_folder import DatasetFolder, built_names, open_dataset
from medcli.core.errors import DataError
from medcli.core.fingerprint import LEAK, asked_of, question_of, text_of
from medcli.core.record import Record
from medcli.core.report import Report, Silent
from medcli.core.settings import folder
from medcli.steps.find_data import find
from medcli.steps.held_out import HeldOutSet, built, held_out, of_dataset, raw_records

_SILENT = Silent()
_BATCH = 1000  # texts compared at once
_SHOWN = 80  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A training record and the held-out item that it repeats; `similarity` is 0 to 1."""

    train: str
    held_out: str
    similarity: float
    asked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The outcome: `pairs` by falling similarity, and how many of the held-out items stand in them."""

    train: str
    against: tuple[str, ...]
    records: int
    items: int
    leaked: int
    pairs: tuple[Pair, ...]

    @property
    def share(self) -> float:
        """The part of the held-out items that is leaked."""
        return self.leaked / self.items if self.items else 0.0


def check(train: str, against: Sequence[str], *, similarity: float = LEAK, report: Report = _SILENT) -> Checked:
    """Compare the train split of a set, or all of a raw file, with held-out sets or raw files.

    Of a built set `valid` and `test` are held out, of an exam all, of a raw file all. Without `against`, every other
    set of this project counts. Raises DataError when there is nothing to compare with.
    """
    names = tuple(against) or tuple(name for name in built_names() if name != Path(train).name)
    dataset = built(train)
    records = dataset.records("train") if dataset else raw_records(find(train, None, "", ""))
    checked = _compare(train, records, [held_out(name) for name in names], similarity, report)
    if not checked.items:
        raise DataError(
            f"there is nothing to compare {train} with",
            hint="build an exam or a set with a test split, or name files with --against",
        )
    return checked


def check_training(sources: Sequence[DatasetFolder], report: Report) -> list[Checked]:
    """The leaks of training sets against each other's held-out rows and every exam of this project.

    A set's own split was made leak-free when it was built. Outcomes are remembered by the files' hashes.
    """
    exams = [dataset for name in built_names() if (dataset := open_dataset(name)).kind == "question"]
    held = {dataset.path.resolve(): dataset for dataset in (*sources, *exams)}
    found = []
    for source in sources:
        others = [of_dataset(dataset) for path, dataset in held.items() if path != source.path.resolve()]
        if others:
            parts = [source.sha256("train"), *(text for other in others for text in other.hashes), str(LEAK)]
            found.append(remembered(source.name, parts) or remember(compare(source, others, report), parts))
    return [checked for checked in found if checked.leaked]


def remembered(name: str, parts: Sequence[str]) -> Checked | None:
    """What was kept of an earlier comparison of the training set `name` with the same `parts`: hashes, and how."""
    file = _memory(name, parts)
    if not file.is_file():
        return None
    table = json.loads(file.read_text("utf-8"))
    pairs = tuple(Pair(**pair) for pair in table["pairs"])
    return Checked(**table | {"against": tuple(table["against"]), "pairs": pairs})


def remember(checked: Checked, parts: Sequence[str]) -> Checked:
    """Keep the outcome under its `parts`, beside the data sets, and return it; raises StorageError."""
    with writing(_memory(checked.train, parts)) as out:
        out.write(json.dumps(asdict(checked), ensure_ascii=False))
    return checked


def compare(source: DatasetFolder, held: Sequence[HeldOutSet], report: Report) -> Checked:
    """Compare the train split of a built set with what is held out, as strictly as training does."""
    return _compare(source.name, source.records("train"), held, LEAK, report, source.count("train"))


def _compare(
    train: str, records: Iterable[Record], held: Sequence[HeldOutSet], similarity: float, report: Report,
    total: int | None = None,
) -> Checked:  # fmt: skip
    from medcli.engine.leak import HeldOut

    report.stage("reading what is held out")
    items = [(side.name, record) for side in held for record in side.records()]
    index = HeldOut([asked_of(record) for _, record in items])
    report.stage(f"comparing {train} with {len(items):,} held-out items", total, "rows")
    pairs, leaked, count = [], set(), 0
    for batch in batches(records, _BATCH):
        texts = [(question_of(record), text_of(record)) for record in batch]
        for match in index.matches(texts, similarity):
            name, record = items[match.item]
            leaked.add(match.item)
            pairs.append(Pair(
                train=batch[match.text].id, held_out=f"{name}: {record.id}", similarity=round(match.score, 3),
                asked=" ".join(asked_of(record)[0].split())[:_SHOWN],
            ))  # fmt: skip
        count += len(batch)
        report.advance(count)
    return Checked(
        train=train, against=tuple(side.name for side in held), records=count, items=len(items),
        leaked=len(leaked), pairs=tuple(sorted(pairs, key=lambda pair: -pair.similarity)),
    )  # fmt: skip


def _memory(name: str, parts: Sequence[str]) -> Path:
    key = sha256("\n".join(parts).encode()).hexdigest()[:16]
    return folder("data") / ".checks" / f"{name}-{key}.json"
