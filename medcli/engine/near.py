"""Near-duplicates among many texts: MinHash by rensa, bands sorted by numpy, each candidate pair measured exactly.

64 bytes a text are held at the usual threshold. Broder, "On the resemblance and containment of documents" (1997);
banding as in Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from medcli.engine.grams import MULTIPLIER, Grams, Hashes, grams_of, similarity

_PERMUTATIONS = 128
_SEED = 1
_BATCH = 1024  # texts signed at once
# Texts made after one pattern fall into the same buckets by the thousand. So a bucket remembers its latest texts only,
# and a text is measured against those with which it shares most buckets: the cost of a text is bounded.
_REMEMBERED = 8
_MEASURED = 6
# Threshold from which on -> (rows in a band, bands to share). At the threshold itself a pair is missed in 1 of 500,
# 100, 50 cases: with similarity s, b bands of r rows are shared binomially, each with chance s to the power of r.
_BANDS = ((0.85, 8, 2), (0.6, 4, 1), (0.0, 2, 1))


class NearDuplicates:
    """Collects texts in order; `repeats` then tells which of them nearly repeat an earlier one."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        _, self._rows, self._shared = next(bands for bands in _BANDS if threshold >= bands[0])
        self._waiting: list[str] = []
        self._bands: list[npt.NDArray[np.uint32]] = []
        self._words: list[npt.NDArray[np.bool_]] = []  # which texts have any: those without are like none

    def add(self, text: str) -> None:
        """The next text; an empty one is compared with none."""
        self._waiting.append(text)
        if len(self._waiting) == _BATCH:
            self._sign()

    def repeats(self, parts_of: Callable[[int], tuple[str, str]]) -> dict[int, int]:
        """Index of a repeated text -> index of the earlier text, itself no repeat, that it is nearly equal to.

        `parts_of` gives a text again by its index, and the part of it that is an answer: candidates only are looked
        at, and both must be alike, for two answers to one long question are no duplicates.
        """
        self._sign()
        kept: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        repeats: dict[int, int] = {}
        known: dict[int, list[Hashes]] = {}
        for index, buckets in self._colliding():
            times = Counter(other for bucket in buckets for other in kept[bucket])
            candidates = [other for other, count in times.most_common(_MEASURED) if count >= self._shared]
            for number in {index, *candidates} - known.keys() if candidates else ():
                grams = grams_of(parts_of(number))
                known[number] = [grams.distinct(0), grams.distinct(1)]
            like = [other for other in candidates if self._are_alike(known[index], known[other])]
            if like:
                repeats[index] = min(like)
            else:
                for bucket in buckets:
                    kept[bucket].append(index)
            if len(known) > 4 * _BATCH:
                known.clear()
        return repeats

    def _are_alike(self, own: list[Hashes], other: list[Hashes]) -> bool:
        if similarity(own[0], other[0]) < self.threshold:
            return False
        return not (len(own[1]) or len(other[1])) or similarity(own[1], other[1]) >= self.threshold

    def _sign(self) -> None:
        if self._waiting:
            grams = grams_of(self._waiting)
            self._bands.append(_bands(grams, self._rows))
            self._words.append(np.diff(grams.offsets) > 0)
            self._waiting.clear()

    def _colliding(self) -> Iterator[tuple[int, list[int]]]:
        """(text, its buckets) of every text that shares a bucket with another, in the order of the texts."""
        if not self._bands:
            return
        words = np.flatnonzero(np.concatenate(self._words))
        table = np.concatenate(self._bands)[words]
        texts, buckets, next_bucket = [], [], 0
        for band in range(table.shape[1]):
            order = np.argsort(table[:, band], kind="stable")
            ordered = table[order, band]
            bucket = np.cumsum(np.diff(ordered, prepend=ordered[:1]) != 0)
            shared = np.bincount(bucket)[bucket] > 1
            texts.append(words[order[shared]])
            buckets.append(bucket[shared] + next_bucket)
            next_bucket += len(table)
        every_text, every_bucket = np.concatenate(texts), np.concatenate(buckets)
        order = np.argsort(every_text, kind="stable")
        every_text, every_bucket = every_text[order], every_bucket[order]
        bounds = [*np.flatnonzero(np.diff(every_text, prepend=-1)).tolist(), len(every_text)]
        for start, end in pairwise(bounds):
            yield int(every_text[start]), every_bucket[start:end].tolist()


def _bands(grams: Grams, rows: int) -> npt.NDArray[np.uint32]:
    """One hash for each band of each text's signature: (texts, bands)."""
    offsets = grams.offsets.astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(grams.hashes, offsets, _PERMUTATIONS, _SEED)
    signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(offsets) - 1, -1, rows)
    hashes = np.zeros(signatures.shape[:2], np.uint64)
    for row in range(rows):
        hashes = (hashes ^ signatures[:, :, row]) * MULTIPLIER
    return (hashes >> np.uint64(32)).astype(np.uint32)
