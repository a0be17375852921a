"""A built data set: `data/<name>/{train,valid,test}.jsonl`, `refused.jsonl`, and `manifest.toml`, written last."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medcli.core.errors import DataError, UnknownNameError
from medcli.core.manifest import MANIFEST, read_manifest
from medcli.core.record import Record, from_row
from medcli.core.settings import folder

SPLITS = ("train", "valid", "test")
HELD_OUT = ("valid", "test")


@dataclass(frozen=True)
class DatasetFolder:
    """A folder with a manifest; the manifest's existence means that the build was finished."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The parsed manifest; raises DataError when the folder is no finished data set."""
        return read_manifest(self.path, "data set", "med data build NAME --raw DIR")

    @property
    def kind(self) -> str:
        """What its records are: "conversation", "preference", "document" or "question"."""
        return str(self.manifest["kind"])

    def file(self, split: str) -> Path:
        """The JSON Lines file of a split."""
        return self.path / f"{split}.jsonl"

    def count(self, split: str) -> int:
        """The number of records in a split."""
        return int(self.manifest["counts"][split])

    def sha256(self, split: str) -> str:
        """The hash the manifest gives for a split's file."""
        return str(self.manifest["files"][split])

    def held_out(self) -> Iterator[Record]:
        """What must never be trained on: valid and test, and of an exam everything."""
        for split in SPLITS if self.kind == "question" else HELD_OUT:
            yield from self.records(split)

    def records(self, split: str, limit: int | None = None) -> Iterator[Record]:
        """The records of a split in order, at most `limit`; raises DataError with file and line."""
        path = self.file(split)
        with path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, 1):
                if limit is not None and line > limit:
                    return
                try:
                    yield from_row(json.loads(text))
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(f"{path}:{line}: not a record: {error}", hint="build the data set again") from error


def built_names() -> list[str]:
    """The names of the finished data sets of this project."""
    return sorted(path.parent.name for path in folder("data").glob(f"*/{MANIFEST}"))


def open_dataset(name: str) -> DatasetFolder:
    """A built data set by its name or folder; raises UnknownNameError."""
    for path in (folder("data") / name, Path(name)):
        if (path / MANIFEST).is_file():
            return DatasetFolder(path)
    raise UnknownNameError(
        "built data set",
        name,
        built_names(),
        hint=f"build it first: med data build {name} --raw DIR    (`med data list` shows what there is)",
    )
