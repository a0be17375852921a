"""A built knowledge base: `data/kb/<name>/` with passages, the index over them, and `manifest.toml`, written last."""

import json
import mmap
from array import array
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medcli.core.errors import DataError, UnknownNameError
from medcli.core.graph_lookup import FactIndex
from medcli.core.manifest import MANIFEST, read_manifest
from medcli.core.passage import Passage
from medcli.core.settings import folder

INDEX = "index"  # the folder in it that the search engine fills
PASSAGES = "passages.jsonl"
REFUSED = "refused.jsonl"
_STARTS = "passages.starts"  # where each line of PASSAGES begins and the last one ends: 8 bytes each
_FACTS = "facts.json"
_AGAIN = "build it again: med kb build"


def bases_folder() -> Path:
    """Where knowledge bases lie: beside the built data sets, in the folder that MED_DATA moves."""
    return folder("data") / "kb"


@dataclass(frozen=True)
class KnowledgeBase:
    """A folder with a manifest; the manifest's existence means that the build was finished."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The parsed manifest; raises DataError when the folder is no finished knowledge base."""
        return read_manifest(self.path, "knowledge base", f"med kb build SOURCE --name {self.name}")

    @property
    def count(self) -> int:
        """The number of its passages."""
        return int(self.manifest["counts"]["kept"])

    @property
    def described(self) -> dict[str, Any]:
        """What tells it from every other one, in plain values for JSON."""
        return {"name": self.name, "key": str(self.manifest["key"]), "passages": self.count}

    def facts(self) -> FactIndex:
        """Which passages are facts of a knowledge graph; raises DataError."""
        path = self.path / _FACTS
        try:
            table = json.loads(path.read_text("utf-8"))
            return FactIndex(facts=table["facts"], names=table["names"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: no table of facts: {error}", hint=_AGAIN) from error


class PassageFile:
    """The passages of a knowledge base by their number, read when they are asked for; may be asked by any thread.

    Raises DataError where files are missing or do not fit each other.
    """

    def __init__(self, base: KnowledgeBase) -> None:
        path = base.path / PASSAGES
        self._starts = array("q")
        try:
            self._starts.frombytes((base.path / _STARTS).read_bytes())
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}", hint=_AGAIN) from error
        if not self._starts or self._starts[-1] != len(self._bytes):
            raise DataError(f"{path} is not as it was built", hint=_AGAIN)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> Passage:
        row = json.loads(self._bytes[self._starts[number] : self._starts[number + 1]])
        return Passage(**{**row, "aliases": tuple(row.get("aliases", ()))})


class PassageWriter:
    """Writes the passages of a new knowledge base to the folder `path`; `finish` writes what finds them again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = (path / PASSAGES).open("wb")
        self._starts = array("q", [0])
        self._facts: dict[str, dict[str, list[int]]] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, passage: Passage) -> None:
        """Write a passage under the next number."""
        row = {key: value for key, value in asdict(passage).items() if value}
        written = self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
        if passage.subject:
            by_attribute = self._facts.setdefault(passage.subject, {})
            by_attribute.setdefault(passage.attribute, []).append(len(self._starts) - 1)
            for name in (passage.subject, *passage.aliases):
                meant = self._names.setdefault(name, [])
                if passage.subject not in meant:
                    meant.append(passage.subject)
        self._starts.append(self._starts[-1] + written)

    def finish(self) -> None:
        """Write where passages begin, and which are facts."""
        self.close()
        (self._path / _STARTS).write_bytes(self._starts.tobytes())
        table = {"facts": self._facts, "names": self._names}
        (self._path / _FACTS).write_text(json.dumps(table, ensure_ascii=False), "utf-8")

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()


def base_names() -> list[str]:
    """The names of the finished knowledge bases of this project."""
    return sorted(path.parent.name for path in bases_folder().glob(f"*/{MANIFEST}"))


def open_base(name: str) -> KnowledgeBase:
    """A built knowledge base by its name; raises UnknownNameError."""
    if name in base_names():
        return KnowledgeBase(bases_folder() / name)
    raise UnknownNameError(
        "knowledge base",
        name,
        base_names(),
        hint=f"build it first: med kb build SOURCE --name {name or 'NAME'}    (`med kb list` shows what there is)",
    )
