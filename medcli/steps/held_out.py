"""What must not be trained on: the held-out part of a built set, an exam, or all of a raw file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medcli.core.atomic import sha256_of
from medcli.core.dataset_folder import SPLITS, DatasetFolder, built_names, open_dataset
from medcli.core.errors import UnknownNameError
from medcli.core.manifest import MANIFEST
from medcli.core.raw import packed_inputs, raw_files
from medcli.core.record import Record
from medcli.steps.find_data import Found, find


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutSet:
    """Records by a name; `hashes` say whether they are still the same."""

    name: str
    hashes: tuple[str, ...]
    records: Callable[[], Iterator[Record]]


def held_out(name: str) -> HeldOutSet:
    """`valid` and `test` of a built set, all of an exam, or all of a raw file; raises UnknownNameError."""
    if dataset := built(name):
        return of_dataset(dataset)
    found = find(name, None, "", "")
    hashes = tuple(sha256_of(path) for path, _ in packed_inputs(raw_files(found.files())))
    return HeldOutSet(name=Path(name).name, hashes=hashes, records=lambda: raw_records(found))


def of_dataset(dataset: DatasetFolder) -> HeldOutSet:
    """The held-out part of a built set."""
    hashes = tuple(dataset.sha256(split) for split in SPLITS)
    return HeldOutSet(name=dataset.name, hashes=hashes, records=dataset.held_out)


def built(name: str) -> DatasetFolder | None:
    """The built set called so, or None when it is a file; raises UnknownNameError when it is neither."""
    if name in built_names() or (Path(name) / MANIFEST).is_file():
        return open_dataset(name)
    if not Path(name).exists():
        raise UnknownNameError("built data set or file", name, built_names())
    return None


def raw_records(found: Found) -> Iterator[Record]:
    """The records of raw files as their importer reads them; what it refuses cannot leak."""
    return (row.record for row in found.rows() if row.record is not None)
