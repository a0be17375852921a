"""A first look at data that somebody wants to learn from: its format, three records of it, and how much it is."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medcli.core.dataset_folder import DatasetFolder, built_names, open_dataset
from medcli.core.errors import DataError
from medcli.core.known_datasets import known_datasets
from medcli.core.raw import raw_files
from medcli.core.record import Conversation, Document, Preference, Question, Record, Row
from medcli.steps.find_data import Found, find, names_to_build
from medcli.steps.show_data import parts_of

SAMPLES = 3
_PATIENCE = 2.0  # seconds of reading; what is longer is estimated from its bytes
_BYTES_A_CHARACTER = 3.0  # of Chinese in UTF-8
_PACKED = (".gz", ".zip", ".parquet", ".tgz")  # how much is in them, their bytes do not say
_KINDS = {Conversation: "conversation", Document: "document", Preference: "preference", Question: "question"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the data are. `records` and `characters` are None where only building them tells.

    `licence` and `commercial` are those of a set known by name, `faults` (where, why) of some rows that hold no
    record. `is_exact` says whether everything was read, or a part and the rest estimated.
    """

    name: str
    importer: str
    kind: str
    licence: str = "unknown"
    commercial: str = "unknown"
    samples: tuple[Record, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()
    records: int | None = None
    characters: int | None = None
    is_exact: bool = False
    is_built: bool = False
    is_here: bool = True


def look_at(target: str, name: str = "") -> Look:
    """Look at a built set, a set known by name, or files of one's own, of which a little is read.

    Raises what `med data build` raises for a name or file that it does not take, and DataError when none of the first
    rows holds a record.
    """
    if (name or target) in built_names():
        return _of_built(open_dataset(name or target))
    found = find(target, None, name, "")
    known = known_datasets().get(found.known)
    if found.source is None:
        assert known is not None  # only sets known by name can be downloaded
        return Look(
            name=found.name, importer=found.importer, kind=known.kind, licence=known.licence,
            commercial=known.commercial, is_here=False,
        )  # fmt: skip
    return _of_files(found, known.licence if known else "unknown", known.commercial if known else "unknown")


def is_there(target: str) -> bool:
    """Whether `med data build` or training finds something under this name."""
    return target in built_names() or target in names_to_build() or Path(target).expanduser().exists()


def _of_built(dataset: DatasetFolder) -> Look:
    manifest = dataset.manifest
    return Look(
        name=dataset.name,
        importer=str(manifest.get("importer", "")),
        kind=dataset.kind,
        licence=str(manifest.get("licence", "unknown")),
        samples=tuple(dataset.records("train", SAMPLES)),
        records=dataset.count("train"),
        characters=int(dataset.file("train").stat().st_size / _BYTES_A_CHARACTER),
        is_built=True,
    )


def _of_files(found: Found, licence: str, commercial: str) -> Look:
    samples: list[Record] = []
    faults: list[tuple[str, str]] = []
    records = characters = 0
    rows = _Timed(found.rows())
    for row in rows:
        if row.record is None:
            faults.append((f"{row.file}:{row.line}", row.reason))
            continue
        records += 1
        characters += sum(len(text) for _, text in parts_of(row.record))
        if len(samples) < SAMPLES:
            samples.append(row.record)
    if not samples:
        raise DataError(
            f"{found.name}: none of the rows that were read holds a record",
            hint="\n".join(": ".join(fault) for fault in faults[:SAMPLES]),
        )
    is_exact = rows.came_to_the_end
    if not is_exact:
        records, characters = _estimated(found, records, characters)
    return Look(
        name=found.name, importer=found.importer, kind=_KINDS[type(samples[0])], licence=licence, commercial=commercial,
        samples=tuple(samples), faults=tuple(faults[:SAMPLES]), records=records or None, characters=characters or None,
        is_exact=is_exact,
    )  # fmt: skip


class _Timed(Iterator[Row]):
    """The rows that are read within the patience; afterwards it knows whether they were all."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._until = time.monotonic() + _PATIENCE
        self.came_to_the_end = False

    def __next__(self) -> Row:
        if time.monotonic() > self._until:
            raise StopIteration
        try:
            return next(self._rows)
        except StopIteration:
            self.came_to_the_end = True
            raise


def _estimated(found: Found, records: int, characters: int) -> tuple[int, int]:
    """Records and characters of the whole, from a part of it and the bytes of all; (0, 0) where bytes say nothing."""
    files = raw_files(found.files())
    if any(Path(raw.name).suffix in _PACKED or raw.member for raw in files):
        return 0, 0
    whole = sum(raw.path.stat().st_size for raw in files) / _BYTES_A_CHARACTER
    return max(records, round(records * whole / max(characters, 1))), max(characters, round(whole))
