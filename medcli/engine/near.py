"""Near-duplicates among many texts: MinHash by rensa, bands sorted by numpy, each candidate pair measured exactly.

64 bytes a text are held at the usual threshold. Broder, "On the resemblance and containment of documents" (1997);
banding as in Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from medcli.engine.grams import Grams, grams_of, similarity

_PERMUTATIONS = 128
_SEED = 1
_BATCH = 1024  # texts signed at once
_REMEMBERED = 8  # texts of one bucket that a new one is measured against
# Threshold from which on -> rows in a band: the chance to miss a pair at the threshold itself stays below 2 %.
_ROWS = ((0.85, 8), (0.6, 4), (0.0, 2))


class NearDuplicates:
    """Collects texts in order; `repeats` then tells which of them nearly repeat an earlier one."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._rows = next(rows for least, rows in _ROWS if threshold >= least)
        self._waiting: list[str] = []
        self._bands: list[npt.NDArray[np.uint32]] = []

    def add(self, text: str) -> None:
        """The next text."""
        self._waiting.append(text)
        if len(self._waiting) == _BATCH:
            self._sign()

    def repeats(self, parts_of: Callable[[int], tuple[str, str]]) -> dict[int, int]:
        """Index of a repeated text -> index of the earlier text, itself no repeat, that it is nearly equal to.

        `parts_of` gives a text again by its index, and the part of it that is an answer: candidates only are looked
        at, and both must be alike, for two answers to one long question are no duplicates.
        """
        self._sign()
        kept: defaultdict[int, list[int]] = defaultdict(list)  # bucket -> its latest texts that are no repeats
        repeats: dict[int, int] = {}
        known: dict[int, Grams] = {}
        for index, buckets in _colliding(self._bands):
            candidates = sorted({other for bucket in buckets for other in kept[bucket]})
            own = grams_of(parts_of(index))
            for other in candidates:
                if other not in known:
                    known[other] = grams_of(parts_of(other))
                if self._are_alike(own, known[other]):
                    repeats[index] = other
                    break
            else:
                for bucket in buckets:
                    kept[bucket] = [*kept[bucket][-_REMEMBERED + 1 :], index]
            if len(known) > _BATCH:
                known.clear()
        return repeats

    def _are_alike(self, own: Grams, other: Grams) -> bool:
        whole = similarity(own.of(0), other.of(0))
        answers = similarity(own.of(1), other.of(1)) if len(own.of(1)) or len(other.of(1)) else 1.0
        return min(whole, answers) >= self.threshold

    def _sign(self) -> None:
        if self._waiting:
            self._bands.append(_bands(grams_of(self._waiting), self._rows))
            self._waiting.clear()


def _bands(grams: Grams, rows: int) -> npt.NDArray[np.uint32]:
    """One hash for each band of each text's signature: (texts, bands)."""
    offsets = grams.offsets.astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(grams.hashes, offsets, _PERMUTATIONS, _SEED)
    signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(offsets) - 1, -1, rows)
    hashes = signatures[:, :, 0]
    for row in range(1, rows):
        hashes = (hashes * np.uint64(0x9E3779B97F4A7C15)) ^ signatures[:, :, row]
    empty = grams.offsets[1:] == grams.offsets[:-1]
    hashes[empty] = np.arange(int(empty.sum()), dtype=np.uint64)[:, None]  # texts without a gram are alike to none
    hashes = hashes * np.uint64(0x9E3779B97F4A7C15)
    return (hashes >> np.uint64(32)).astype(np.uint32)


def _colliding(bands: list[npt.NDArray[np.uint32]]) -> Iterable[tuple[int, list[int]]]:
    """(text, its buckets) of every text that shares a bucket with another, in the order of the texts."""
    if not bands:
        return
    table = np.concatenate(bands)
    texts, buckets, next_bucket = [], [], 0
    for band in range(table.shape[1]):
        column = table[:, band]
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        bucket = np.cumsum(new) - 1
        shared = np.bincount(bucket)[bucket] > 1
        texts.append(order[shared])
        buckets.append(bucket[shared] + next_bucket)
        next_bucket += int(bucket[-1]) + 1
    every_text, every_bucket = np.concatenate(texts), np.concatenate(buckets)
    order = np.argsort(every_text, kind="stable")
    every_text, every_bucket = every_text[order], every_bucket[order]
    bounds = [*np.flatnonzero(np.diff(every_text, prepend=-1)).tolist(), len(every_text)]
    for start, end in pairwise(bounds):
        yield int(every_text[start]), every_bucket[start:end].tolist()
