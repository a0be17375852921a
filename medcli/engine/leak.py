"""Which texts of a training set repeat what an exam or a test split asks.

The measure is containment: the share of a held-out item's character grams that a text holds. It bears shuffled
options, other punctuation and text around the question. Items too short for that are compared by Jaccard, or must
stand in the text part by part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from medcli.core.batches import batches
from medcli.core.fingerprint import bare
from medcli.engine.grams import SIZE, Hashes, grams_of, similarity

_LONG = 20  # grams from which on containment in any text is no accident: 24 characters
_SHORTEST = 10  # characters of a short item that may be looked for part by part
_POSTINGS = 8  # items remembered for one gram; "下列哪项是正确的" stands in thousands
_SKETCH = 24  # grams remembered of an item: those that stand in fewest others
# Share of them that makes a pair worth measuring; of pairs at 0.8 this misses one in a hundred, of pairs at 0.85 one
# in 1,500 (binomial, 24 grams). Of a short item all grams are remembered, and none is missed.
_CANDIDATE = 0.6
_BATCH = 512  # items
_TABLE = 22  # bits of a hash by which grams are counted: 16 MiB, and a count that is too high does no harm
_TRIED = 16  # items a text is measured against when one is enough; of texts made after one pattern hundreds come near
_KNOWN = 8 << 20  # grams of measured items that are kept: 64 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Text `text` of a batch holds `score` (0 to 1) of the held-out item `item`."""

    text: int
    item: int
    score: float


class HeldOut:
    """An index of held-out items. An item is its parts: the stem and the options, or one question."""

    def __init__(self, items: Sequence[Sequence[str]]) -> None:
        self._known: dict[int, Hashes] = {}  # grams of the items that were measured last
        self._size = 0
        self._parts = [[bare(part) for part in item] for item in items]
        hashes, owners = _sketches(self._parts)
        order = np.argsort(hashes, kind="stable")
        hashes, owners = hashes[order], owners[order]
        self._keys, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        self._shift = np.uint64(64 - max(16, len(self._keys).bit_length() + 4))
        self._maybe = np.zeros(1 << (64 - int(self._shift)), bool)
        self._maybe[self._keys >> self._shift] = True
        kept = np.minimum(counts, _POSTINGS)
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
        self._owners = owners[np.repeat(first - self._starts[:-1], kept) + np.arange(self._starts[-1])]
        self._indexed = np.bincount(self._owners, minlength=len(items))

    def matches(self, texts: Sequence[tuple[str, str]], threshold: float, *, one_each: bool = False) -> Iterator[Match]:
        """The pairs that score `threshold` or more; a text is (its question, all of it).

        `one_each` is for whoever only asks whether a text leaks: the first of its likeliest items ends the search.
        """
        wholes = grams_of([whole for _, whole in texts])
        for text, items in groupby(self._candidates(wholes.hashes, wholes.offsets), key=itemgetter(0)):
            whole = np.sort(wholes.of(text))
            for _, item in islice(items, _TRIED if one_each else None):
                score = self._score(item, whole, *texts[text])
                if score >= threshold:
                    yield Match(text=text, item=item, score=score)
                    if one_each:
                        break

    def _candidates(self, hashes: Hashes, offsets: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """(text, item) pairs that share enough grams: text by text, the likeliest item first."""
        if not len(self._keys) or not len(hashes):
            return
        maybe = self._maybe[hashes >> self._shift]  # a table look-up spares most grams the search
        hashes = hashes[maybe]
        texts = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[maybe]
        places = np.minimum(np.searchsorted(self._keys, hashes), len(self._keys) - 1)
        found = self._keys[places] == hashes
        hits = np.unique(texts[found] * len(self._keys) + places[found])  # each gram once a text
        hit_texts, hit_keys = np.divmod(hits, len(self._keys))
        counts = self._starts[hit_keys + 1] - self._starts[hit_keys]
        before = np.cumsum(counts) - counts
        rows = np.repeat(self._starts[hit_keys] - before, counts) + np.arange(counts.sum())
        pairs = np.repeat(hit_texts, counts) * len(self._indexed) + self._owners[rows]
        pairs, shared = np.unique(pairs, return_counts=True)
        pair_texts, items = np.divmod(pairs, len(self._indexed))
        found_share = shared / self._indexed[items]
        order = np.lexsort((items, -found_share, pair_texts))
        order = order[found_share[order] >= _CANDIDATE]
        yield from zip(pair_texts[order].tolist(), items[order].tolist(), strict=True)

    def _score(self, item: int, whole: Hashes, question: str, text: str) -> float:
        parts = self._parts[item]
        grams = self._known.get(item)
        if grams is None:
            grams = self._known[item] = _distinct(parts)
            self._size += len(grams)
            if self._size > _KNOWN:
                self._known, self._size = {}, 0
        if len(grams) >= _LONG:
            places = np.minimum(np.searchsorted(whole, grams), len(whole) - 1)
            return float((whole[places] == grams).mean())
        if sum(map(len, parts)) >= _SHORTEST and len(parts) > 1:
            there = bare(text)
            return float(all(part in there for part in parts))
        return similarity(grams, grams_of([question]).distinct(0))


def _distinct(parts: Sequence[str]) -> Hashes:
    """The different grams of an item, sorted."""
    return np.unique(grams_of(_telling(parts)).hashes)


def _telling(parts: Sequence[str]) -> list[str]:
    """The parts that have grams; options shorter than a gram could stand anywhere."""
    return [part for number, part in enumerate(parts) if number == 0 or len(part) >= SIZE]


def _sketches(items: Sequence[Sequence[str]]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """(hash, item) of the grams remembered: of each item those that stand in fewest items, ties by hash."""
    counts = np.zeros(1 << _TABLE, np.uint32)
    for hashes, _ in _grams_by_item(items):
        np.add.at(counts, hashes >> np.uint64(64 - _TABLE), 1)
    kept_hashes, kept_owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for hashes, owners in _grams_by_item(items):
        order = np.lexsort((hashes, counts[hashes >> np.uint64(64 - _TABLE)], owners))
        hashes, owners = hashes[order], owners[order]
        first = np.flatnonzero(np.diff(owners, prepend=-1))
        rank = np.arange(len(owners)) - np.repeat(first, np.diff(np.append(first, len(owners))))
        kept_hashes.append(hashes[rank < _SKETCH])
        kept_owners.append(owners[rank < _SKETCH])
    return np.concatenate(kept_hashes), np.concatenate(kept_owners)


def _grams_by_item(items: Sequence[Sequence[str]]) -> Iterator[tuple[Hashes, npt.NDArray[np.int64]]]:
    """The different grams of some items at a time, and the number of the item that each stands in."""
    for numbers in batches(range(len(items)), _BATCH):
        parts = [(number, part) for number in numbers for part in _telling(items[number])]
        grams = grams_of([part for _, part in parts])
        owners = np.repeat(np.array([number for number, _ in parts], np.int64), np.diff(grams.offsets))
        order = np.lexsort((grams.hashes, owners))
        hashes, owners = grams.hashes[order], owners[order]
        new = (np.diff(hashes, prepend=hashes[:1] + np.uint64(1)) != 0) | (np.diff(owners, prepend=-1) != 0)
        yield hashes[new], owners[new]
