"""Where each record of a set being built stands, and which of them are too alike to stay."""

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from medcli.core.batches import batches
from medcli.core.dataset_folder import HELD_OUT, SPLITS
from medcli.core.fingerprint import LEAK, answer_of, asked_of, question_of, text_of
from medcli.core.record import Record, Row, from_row
from medcli.core.report import Report
from medcli.steps.held_out import HeldOutSet

if TYPE_CHECKING:
    from medcli.engine.near import NearDuplicates as Signatures

_BATCH = 1000  # records compared at once
_TRAIN = SPLITS.index("train")

_Held = tuple[str, Record]  # where it is held out, and what


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A record to take out again: where it stands in its split, where it stood in the raw file, and why."""

    split: str
    offset: int
    file: str
    line: int
    reason: str


class Ledger:
    """Notes 26 bytes of each record, and a signature of 64 bytes; no text is held.

    A `near` of 1 turns the search for near-duplicates off. Rows made by a grammar are alike on purpose: they are
    compared with the sets `without` which this one is built, and with nothing else.
    """

    def __init__(self, path: Path, near: float) -> None:
        self._path = path
        self._sizes = dict.fromkeys(SPLITS, 0)
        self._splits, self._offsets, self._made = array("B"), array("Q"), array("B")
        self._files: dict[str, int] = {}
        self._raw, self._lines = array("I"), array("Q")
        self._signatures: Signatures | None = None
        if near < 1:
            from medcli.engine.near import NearDuplicates

            self._signatures = NearDuplicates(near)

    def note(self, row: Row, record: Record, split: str, size: int) -> None:
        """The next record, `size` bytes in its split's file, came from `row`."""
        self._splits.append(SPLITS.index(split))
        self._offsets.append(self._sizes[split])
        self._made.append(row.made)
        self._raw.append(self._files.setdefault(row.file, len(self._files)))
        self._lines.append(row.line)
        if self._signatures:
            self._signatures.add("" if row.made else text_of(record))
        self._sizes[split] += size

    def refusals(self, report: Report, *, source_decides: bool, without: Sequence[HeldOutSet] = ()) -> list[Refusal]:
        """The records that nearly repeat an earlier one, and those of train that nearly ask a held-out question.

        Where the source decides the split, its held-out rows stay as they are published, or scores could not be
        compared with anyone's.
        """
        with ExitStack() as stack:
            files = [stack.enter_context((self._path / f"{split}.jsonl").open("rb")) for split in SPLITS]
            reasons: dict[int, str] = {}
            if self._signatures:
                report.stage("looking for near-duplicates")
                reasons = self._repeats(files, self._signatures)
            if source_decides:
                reasons = {index: why for index, why in reasons.items() if self._splits[index] == _TRAIN}
            own = [(f"in {split}: {record.id}", record) for split, _, record in self._of(files, HELD_OUT, reasons)]
            others = [
                (f"held out in {set_.name}: {record.id}", record) for set_ in without for record in set_.records()
            ]
            if own or others:
                report.stage("looking for leaks", len(self._splits), "rows")
                reasons |= self._leaks(files, reasons, own, others, report)
        return [self._refusal(index, reasons[index]) for index in sorted(reasons)]

    def _repeats(self, files: Sequence[IO[bytes]], signatures: "Signatures") -> dict[int, str]:
        def parts(index: int) -> tuple[str, str]:
            record = self._record(files, index)
            return text_of(record), answer_of(record)

        repeats = signatures.repeats(parts)
        return {index: f"near-duplicate: of {self._record(files, other).id}" for index, other in repeats.items()}

    def _leaks(
        self, files: Sequence[IO[bytes]], gone: dict[int, str], own: list[_Held], others: list[_Held], report: Report
    ) -> dict[int, str]:
        from medcli.engine.leak import HeldOut

        held = [*others, *own]
        held_out = HeldOut([asked_of(record) for _, record in held])
        found: dict[int, str] = {}
        for batch in batches(self._of(files, ("train",), gone), _BATCH):
            texts = [(question_of(record), text_of(record)) for _, _, record in batch]
            for match in held_out.matches(texts, LEAK, one_each=not others):
                _, index, _ = batch[match.text]
                if match.item < len(others) or not self._made[index]:
                    found.setdefault(index, f"nearly the same question is {held[match.item][0]}")
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
