"""Where each record of a set being built stands, and which of them are too alike to stay."""

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from medcli.core.dataset_folder import SPLITS
from medcli.core.fingerprint import answer_of, asked_of, question_of, text_of
from medcli.core.record import Record, Row, from_row
from medcli.core.report import Report

_BATCH = 1000  # records compared at once
_HELD_OUT = ("valid", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A record to take out again: where it stands in its split, where it stood in the raw file, and why."""

    split: str
    offset: int
    file: str
    line: int
    reason: str


class Ledger:
    """Notes 25 bytes of each record that may be compared, and its signature: 64 bytes; no text is held.

    A `near` of 1 turns comparing off; rows made by a grammar are left out.
    """

    def __init__(self, path: Path, near: float) -> None:
        self._path, self._near = path, near
        self._sizes = dict.fromkeys(SPLITS, 0)
        self._splits, self._offsets = array("B"), array("Q")
        self._files: dict[str, int] = {}
        self._raw, self._lines = array("I"), array("Q")
        if near < 1:
            from medcli.engine.near import NearDuplicates

            self._signatures = NearDuplicates(near)

    def note(self, row: Row, record: Record, split: str, size: int) -> None:
        """The next record, `size` bytes in its split's file, came from `row`."""
        if self._near < 1 and not row.made:
            self._splits.append(SPLITS.index(split))
            self._offsets.append(self._sizes[split])
            self._raw.append(self._files.setdefault(row.file, len(self._files)))
            self._lines.append(row.line)
            self._signatures.add(text_of(record))
        self._sizes[split] += size

    def refusals(self, report: Report, *, source_decides: bool) -> list[Refusal]:
        """The records that nearly repeat an earlier one, and those of train that nearly ask a held-out question.

        Where the source decides the split, its held-out rows stay as they are published, or scores could not be
        compared with anyone's.
        """
        if not self._splits:
            return []
        with ExitStack() as stack:
            files = [stack.enter_context((self._path / f"{split}.jsonl").open("rb")) for split in SPLITS]
            report.stage("looking for near-duplicates")
            reasons = self._repeats(files)
            if source_decides:
                train = SPLITS.index("train")
                reasons = {index: reason for index, reason in reasons.items() if self._splits[index] == train}
            if any(self._splits.count(SPLITS.index(split)) for split in _HELD_OUT):
                report.stage("looking for leaks", len(self._splits), "rows")
                reasons |= self._leaks(files, reasons, report)
        return [self._refusal(index, reasons[index]) for index in sorted(reasons)]

    def _repeats(self, files: Sequence[IO[bytes]]) -> dict[int, str]:
        def parts(index: int) -> tuple[str, str]:
            record = self._record(files, index)
            return text_of(record), answer_of(record)

        repeats = self._signatures.repeats(parts)
        return {index: f"near-duplicate: of {self._record(files, other).id}" for index, other in repeats.items()}

    def _leaks(self, files: Sequence[IO[bytes]], gone: dict[int, str], report: Report) -> dict[int, str]:
        from medcli.engine.leak import HeldOut

        held = [(split, record) for split, _, record in self._of(files, _HELD_OUT, gone)]
        index_of_held = HeldOut([asked_of(record) for _, record in held])
        found: dict[int, str] = {}
        for batch in _batches(self._of(files, ("train",), gone)):
            texts = [(question_of(record), text_of(record)) for _, _, record in batch]
            for match in index_of_held.matches(texts, self._near):
                split, record = held[match.item]
                found.setdefault(batch[match.text][1], f"nearly the same question is in {split}: {record.id}")
            report.advance(batch[-1][1] + 1)
        return found

    def _of(
        self, files: Sequence[IO[bytes]], splits: tuple[str, ...], gone: dict[int, str]
    ) -> Iterator[tuple[str, int, Record]]:
        """(split, index, record) of the records of some splits that stay so far."""
        for index, number in enumerate(self._splits):
            if SPLITS[number] in splits and index not in gone:
                yield SPLITS[number], index, self._record(files, index)

    def _record(self, files: Sequence[IO[bytes]], index: int) -> Record:
        file = files[self._splits[index]]
        file.seek(self._offsets[index])
        return from_row(json.loads(file.readline()))

    def _refusal(self, index: int, reason: str) -> Refusal:
        names = list(self._files)
        return Refusal(
            split=SPLITS[self._splits[index]], offset=self._offsets[index], file=names[self._raw[index]],
            line=self._lines[index], reason=reason,
        )  # fmt: skip


def take_out(path: Path, refusals: list[Refusal]) -> tuple[Counter[str], Counter[str]]:
    """Move records from the splits to refused.jsonl; returns how many by split and by reason."""
    by_split: Counter[str] = Counter()
    by_reason: Counter[str] = Counter()
    with (path / "refused.jsonl").open("ab") as refused:
        for split in SPLITS:
            leaving = {item.offset: item for item in refusals if item.split == split}
            if not leaving:
                continue
            rest, offset = path / f"{split}.rest", 0
            with (path / f"{split}.jsonl").open("rb") as file, rest.open("wb") as kept:
                for line in file:
                    if item := leaving.get(offset):
                        refused.write(_entry(item, line))
                        by_reason[item.reason.partition(": ")[0]] += 1
                    else:
                        kept.write(line)
                    offset += len(line)
            rest.replace(path / f"{split}.jsonl")
            by_split[split] = len(leaving)
    return by_split, by_reason


def _entry(item: Refusal, line: bytes) -> bytes:
    shown = text_of(from_row(json.loads(line)))[:500]
    row = {"file": item.file, "line": item.line, "reason": item.reason, "text": shown}
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _batches(rows: Iterator[tuple[str, int, Record]]) -> Iterator[list[tuple[str, int, Record]]]:
    batch: list[tuple[str, int, Record]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
