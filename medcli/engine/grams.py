"""Character 5-grams as 64-bit hashes: what near-duplicates and leaks are measured by, made in bulk by numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medcli.core.fingerprint import bare

SIZE = 5  # characters; of 3 to 8, 5 keeps Chinese phrases apart and still bears a changed word
Hashes = npt.NDArray[np.uint64]
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing
_SHIFT = np.uint64(29)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grams:
    """The grams of many texts, one after the other: text i has `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Hashes
    offsets: npt.NDArray[np.int64]

    def of(self, index: int) -> Hashes:
        """The grams of one text, in order, repeats included."""
        return self.hashes[self.offsets[index] : self.offsets[index + 1]]

    def distinct(self, index: int) -> Hashes:
        """The different grams of one text, sorted."""
        return np.unique(self.of(index))


def grams_of(texts: Sequence[str]) -> Grams:
    """The grams of each text; a text shorter than a gram is one gram, an empty one has none."""
    bares = [bare(text) for text in texts]
    padded = [text.ljust(SIZE, "\0") if text else "" for text in bares]
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    counts = np.maximum(lengths - (SIZE - 1), 0)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    joined = "".join(padded)
    if len(joined) < SIZE:
        return Grams(hashes=np.zeros(0, np.uint64), offsets=offsets)
    hashes = _rolled(np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64))
    starts = np.cumsum(lengths) - lengths
    chosen = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
    return Grams(hashes=hashes[chosen], offsets=offsets)


def similarity(one: Hashes, other: Hashes) -> float:
    """Jaccard of two texts by their different grams, sorted: the share of all that both have; 0 when there is none."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    total = len(one) + len(other) - shared
    return shared / total if total else 0.0


def _rolled(characters: Hashes) -> Hashes:
    """The hash of every window of SIZE characters."""
    count = len(characters) - SIZE + 1
    hashes = characters[:count].copy()
    for step in range(1, SIZE):
        hashes *= MULTIPLIER
        hashes ^= hashes >> _SHIFT
        hashes ^= characters[step : step + count]
    hashes *= MULTIPLIER
    return hashes ^ (hashes >> _SHIFT)
