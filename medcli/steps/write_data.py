"""Put rows into the files of their splits, keep the account, and let no question stand in two splits."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from heapq import nsmallest
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from medcli.core.batches import batches
from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import SPLITS
from medcli.core.fingerprint import LEAK, asked_of, fingerprint, question_of, text_of
from medcli.core.phi import Masker
from medcli.core.record import Record, Row, from_row, kind_of, to_row
from medcli.core.report import Report
from medcli.steps.held_out import HeldOutSet
from medcli.steps.ledger import Ledger, take_out

_WHOLE = 1 << 64  # fingerprints are below it
_SHOWN = 500  # characters of a refused row
_TRIED = 20  # questions that are looked at to fill a split
_BATCH = 1000  # records compared at once
_SMALLEST = 20  # records from which on every split gets one


class Writer:
    """The files of a data set being written into `path`, and the account of its rows."""

    def __init__(self, path: Path, name: str, settings: BuildSettings) -> None:
        self.path, self.name, self.seed = path, name, settings.seed
        self.shares = {"valid": settings.valid, "test": settings.test}
        self._shows_identifiers = settings.phi in ("off", "report")
        self.ledger = Ledger(path, settings.near)
        self.kind = ""
        self.read = self.kept = self.refused = 0
        self.counts = dict.fromkeys(SPLITS, 0)
        self.reasons: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()  # what the gates mended: what -> how often
        self.source_decides = False
        self._decided: dict[int, str] = {}  # question -> split, for questions whose split the source decides
        self._rows: Counter[str] = Counter()
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Writer":
        for stem in (*SPLITS, "refused"):
            file = (self.path / f"{stem}.jsonl").open("wb")
            self._files[stem] = self._stack.enter_context(file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self, row: Row, record: Record | None, reason: str) -> None:
        """Write the record of a row, or why there is none."""
        self.read += 1
        self._rows[row.file] += 1
        if record is not None and not reason:
            reason = self._place(record, row)
        if record is None or reason:
            self._refuse(row, reason or "no record")

    def sift(self, without: Sequence[HeldOutSet], report: Report) -> None:
        """Take out what is too like another record, once all files are written and closed."""
        refusals = self.ledger.refusals(report, source_decides=self.source_decides, without=without)
        by_split, by_reason = take_out(self.path, refusals)
        for split, count in by_split.items():
            self.counts[split] -= count
            self.kept -= count
            self.refused += count
        self.reasons += by_reason

    def rows_from(self, names: Sequence[str]) -> list[int]:
        """For each input file, the rows accounted for that stood in it or in a member of it."""
        found = dict.fromkeys(names, 0)
        for file, count in self._rows.items():
            if file not in found:  # the archive that holds it
                file = next(name for name in found if file.startswith(f"{name}/"))
            found[file] += count
        return list(found.values())

    def _place(self, record: Record, row: Row) -> str:
        split = row.split
        kind = kind_of(record)
        self.kind = self.kind or kind
        if kind != self.kind:
            return f"a {kind} among {self.kind}s"
        question = fingerprint(question_of(record), seed=self.seed)
        if split:
            self.source_decides = True
            other = self._decided.setdefault(question, split)
        else:
            other = split = self._decided.get(question) or self._drawn(question)
        if other != split:
            return f"the same question is in {other}"
        size = self._write(split, to_row(record))
        self.ledger.note(row, record, split, size)
        self.kept += 1
        self.counts[split] += 1
        return ""

    def _drawn(self, question: int) -> str:
        """The split that the question's hash gives: the same in every build, whatever stands around it."""
        point = question / _WHOLE
        for split, share in self.shares.items():
            if point < share:
                return split
            point -= share
        return "train"

    def _refuse(self, row: Row, reason: str) -> None:
        self.refused += 1
        self.reasons[reason.partition(": ")[0]] += 1
        text = row.text if self._shows_identifiers else Masker().mask(row.text)[:_SHOWN]
        self._write("refused", {"file": row.file, "line": row.line, "reason": reason, "text": text})

    def _write(self, stem: str, value: dict[str, Any]) -> int:
        line = json.dumps(value, ensure_ascii=False) + "\n"
        # A refused row may still hold halves of surrogate pairs, which UTF-8 cannot.
        return self._files[stem].write(line.encode("utf-8", "replace"))


def fill_empty_splits(writer: Writer) -> None:
    """Give a split that the hash left empty the question of the train split with the smallest hash.

    This happens in small sets only. A source that decides the split is left as it is.
    """
    if writer.source_decides or writer.kept < _SMALLEST:
        return
    for split, share in writer.shares.items():
        if share and not writer.counts[split] and (question := _movable(writer)) is not None:
            moved = _move(writer, question, split)
            writer.counts[split] += moved
            writer.counts["train"] -= moved


def _movable(writer: Writer) -> int | None:
    """The train question with the smallest hash that no other one nearly asks; none where all but one would be left."""
    from medcli.engine.leak import HeldOut

    questions = {question for question, _ in _train_lines(writer)}
    smallest = set(nsmallest(min(_TRIED, len(questions) - 1), questions))
    asked: dict[int, tuple[str, ...]] = {}
    for question, line in _train_lines(writer):
        if question in smallest:
            asked.setdefault(question, asked_of(_record(line)))
    items, near = list(asked), set()
    index = HeldOut(list(asked.values()))
    for batch in batches(_train_lines(writer), _BATCH):
        records = [_record(line) for _, line in batch]
        for match in index.matches([(question_of(record), text_of(record)) for record in records], LEAK):
            if items[match.item] != batch[match.text][0]:
                near.add(items[match.item])
    return min(set(items) - near, default=None)


def _move(writer: Writer, question: int, split: str) -> int:
    moved = 0
    rest = writer.path / "train.rest"
    with rest.open("w", encoding="utf-8", newline="\n") as kept, _split_file(writer, split) as target:
        for asked, line in _train_lines(writer):
            moved += asked == question
            (target if asked == question else kept).write(line)
    rest.replace(writer.path / "train.jsonl")
    return moved


def _split_file(writer: Writer, split: str) -> IO[str]:
    return (writer.path / f"{split}.jsonl").open("a", encoding="utf-8", newline="\n")


def _train_lines(writer: Writer) -> Iterator[tuple[int, str]]:
    with (writer.path / "train.jsonl").open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield fingerprint(question_of(_record(line)), seed=writer.seed), line


def _record(line: str) -> Record:
    return from_row(json.loads(line))
