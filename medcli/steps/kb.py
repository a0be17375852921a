"""Build a knowledge base: read, mask, cut into passages, index; every passage accounted for."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from medcli import __version__
from medcli.core.atomic import folder_aside, remove_leftovers, sha256_of
from medcli.core.build_settings import BuildSettings
from medcli.core.errors import DataError, UsageError
from medcli.core.fingerprint import normal
from medcli.core.knowledge_base import INDEX, PASSAGES, REFUSED, KnowledgeBase, PassageWriter, bases_folder
from medcli.core.manifest import MANIFEST
from medcli.core.passage import LENGTH, Passage
from medcli.core.phi import Masker
from medcli.core.record import Document, Record
from medcli.core.report import Report, Silent
from medcli.core.settings import setting
from medcli.core.shelf import Shelf
from medcli.steps.grounded import engine
from medcli.steps.kb_sources import Drawn, Origin, check_alike, origin_of

SECTION = "kb.build"
_GATES = Shelf("medcli.gates", "gate")
GATES = ("normalise", "phi")
_TOLD_EVERY = 1000  # passages
_DUPLICATE = "duplicate"
_SILENT = Silent()

Gate = Callable[[Record], Record | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `med kb build` can be told."""

    name: str = setting("", help="Name of the knowledge base; as the source is called when there is one only.")
    passage_length: int = setting(
        LENGTH, help="The longest passage, in characters; texts are cut at the ends of sentences.", minimum=50
    )


def build(sources: Sequence[str], settings: Settings, report: Report = _SILENT) -> KnowledgeBase:
    """Build `data/kb/<name>/` from its sources, or leave it when it is built from the same already.

    Raises UsageError, DataError or StorageError; then the old knowledge base is still there whole.
    """
    engine()  # what is missing is told before anything is read
    origins = [origin_of(source) for source in sources]
    check_alike(origins)
    base = KnowledgeBase(bases_folder() / _name(origins, settings))
    _check_replaceable(base)
    remove_leftovers(base.path)
    hashes = _hashes(origins, report)
    key = _key(hashes, settings)
    if _is_unchanged(base, key):
        report.note(f"{base.path} is built from the same files with the same settings: nothing to do")
        return base
    with folder_aside(base.path) as aside:
        with _Writer(aside, report) as writer:
            for origin in origins:
                report.stage(f"reading {origin.name}", None, "passages")
                for drawn in origin.passages(settings.passage_length):
                    writer.take(origin, drawn)
                report.advance(writer.read)
            writer.finish(base.name)
        table = {
            "name": base.name,
            "med": __version__,
            "key": key,
            "passage_length": settings.passage_length,
            "counts": {"read": writer.read, "kept": writer.kept, "refused": writer.refused},
            "refused": dict(writer.reasons.most_common()),
            "changed": dict(writer.changed.most_common()),
            "passages_sha256": sha256_of(aside / PASSAGES),
            "sources": [_row(origin, hashes, writer) for origin in origins],
        }
        _write_manifest(aside / MANIFEST, table)
    return KnowledgeBase(base.path)


class _Writer:
    """Takes what the sources hold, and writes passages, refusals and the index to a folder."""

    def __init__(self, path: Path, report: Report) -> None:
        self.read = self.kept = 0
        self.reasons: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.by_origin: Counter[str] = Counter()
        self._path, self._report = path, report
        self._gates: list[Gate] = [_GATES.get(name).gate(BuildSettings(), self.changed) for name in GATES]
        self._seen: set[bytes] = set()
        self._index = engine().IndexWriter()

    def __enter__(self) -> "_Writer":
        self._passages = PassageWriter(self._path)
        self._refused = (self._path / REFUSED).open("w", encoding="utf-8", newline="\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._passages.close()
        self._refused.close()

    @property
    def refused(self) -> int:
        """How many passages, and rows without one, were left out."""
        return self.reasons.total()

    def take(self, origin: Origin, drawn: Drawn) -> None:
        """Keep a passage, masked, or write down why it is refused."""
        self.read += 1
        passage, reason = self._through_gates(drawn.passage) if drawn.passage else (None, drawn.reason)
        if passage is None:
            self.reasons[reason.partition(": ")[0]] += 1
            row = {"at": drawn.at, "reason": reason, "text": Masker().mask(drawn.text)}
            self._refused.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            self.kept += 1
            self.by_origin[origin.name] += 1
            self._passages.add(passage)
            self._index.add(passage.text)
        if self.read % _TOLD_EVERY == 0:
            self._report.advance(self.read)

    def finish(self, name: str) -> None:
        """Write the index; raises DataError when nothing was kept."""
        if not self.kept:
            reasons = ", ".join(f"{count:,} × {reason}" for reason, count in self.reasons.most_common(5))
            raise DataError(
                f"{name}: nothing to keep in {self.read:,} passages{': ' + reasons if reasons else ''}",
                hint="a knowledge base needs texts (.txt, .md), rows with text, a built data set or a knowledge graph",
            )
        self._report.stage("indexing", self.kept, "passages")
        self._passages.finish()
        self._index.finish(self._path / INDEX)
        self._report.advance(self.kept)

    def _through_gates(self, passage: Passage) -> tuple[Passage | None, str]:
        """The passage in its one plain form, without patients; else the reason of its refusal."""
        record: Record | str = Document(id="", text=passage.text, source="")
        for gate in self._gates:
            if isinstance(record, str):
                return None, record
            record = gate(record)
        if isinstance(record, str) or not isinstance(record, Document):
            return None, str(record)
        if not record.text:
            return None, "no text in it"
        digest = blake2b(normal(record.text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            return None, _DUPLICATE
        self._seen.add(digest)
        return replace(passage, text=record.text), ""


def _name(origins: Sequence[Origin], settings: Settings) -> str:
    if settings.name:
        return _checked(settings.name)
    if len(origins) > 1:
        raise UsageError("--name is missing", hint="several sources have no name together: --name NAME")
    return _checked(origins[0].name.partition(".")[0])


def _checked(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError(f"'{name}' cannot name a knowledge base", hint="use letters, digits, '-', '_' and '.'")
    return name


def _check_replaceable(base: KnowledgeBase) -> None:
    """A folder that we did not build is not ours to replace."""
    if (bases_folder() / MANIFEST).is_file():
        raise UsageError(
            f"{bases_folder()} is a data set, and knowledge bases would lie in it",
            hint="build that data set under another --name, and remove this one",
        )
    if base.path.exists() and not (base.path / MANIFEST).is_file() and any(base.path.iterdir()):
        raise UsageError(
            f"{base.path} is no knowledge base that med has built, and would be replaced",
            hint="move it away, or build under another --name",
        )


def _hashes(origins: Sequence[Origin], report: Report) -> dict[str, str]:
    files = [file for origin in origins for file in origin.files]
    report.stage("checking the files", sum(file.path.stat().st_size for file in files), "bytes")
    found, done = {}, 0
    for file in files:
        found[file.name] = sha256_of(file.path)
        done += file.path.stat().st_size
        report.advance(done)
    return found


def _key(hashes: dict[str, str], settings: Settings) -> str:
    """What the outcome depends on; equal keys mean equal passages."""
    parts = [__version__, settings.passage_length, *GATES, *hashes.items()]
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _is_unchanged(base: KnowledgeBase, key: str) -> bool:
    """Whether it is built with this key, and its passages are still as they were written."""
    if not (base.path / MANIFEST).is_file() or base.manifest.get("key") != key:
        return False
    passages = base.path / PASSAGES
    return passages.is_file() and sha256_of(passages) == base.manifest["passages_sha256"]


def _row(origin: Origin, hashes: dict[str, str], writer: _Writer) -> dict[str, Any]:
    kind = "data set" if origin.dataset else "files"
    files = [{"file": file.name, "sha256": hashes[file.name]} for file in origin.files]
    return {"name": origin.name, "kind": kind, "passages": writer.by_origin[origin.name], "files": files}


def _write_manifest(path: Path, table: dict[str, Any]) -> None:
    import tomlkit

    path.write_text(tomlkit.dumps(table), encoding="utf-8")
