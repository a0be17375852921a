"""How often each whole number occurs: exact percentiles and bins, small wherever numbers repeat."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

PERCENTILES = (50, 90, 99, 100)
# ISO 3's series R10: ten numbers to a power of ten, each about 1.26 times the one before.
_STEPS = (100, 125, 160, 200, 250, 315, 400, 500, 630, 800)
_EDGES = tuple(sorted({0, *(step * 10**power // 100 for power in range(10) for step in _STEPS)}))
_FEW = 20  # so many values or fewer stand each for themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """How many numbers lie between `low` and `high`, both included."""

    low: int
    high: int
    count: int

    @property
    def label(self) -> str:
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}–{self.high:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Whole numbers from 0 up; `counts`: number -> how often it occurs."""

    counts: Mapping[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    @property
    def total(self) -> int:
        return sum(number * count for number, count in self.counts.items())

    @property
    def percentiles(self) -> dict[int, int]:
        """Percentile -> its nearest rank, the smallest number that so many percent do not exceed; {} of nothing."""
        ranks = {percent: -(-self.count * percent // 100) for percent in PERCENTILES}
        found: dict[int, int] = {}
        seen = 0
        for number, count in sorted(self.counts.items()):
            seen += count
            found |= {p: number for p, rank in ranks.items() if p not in found and seen >= rank}
        return found

    @property
    def bins(self) -> list[Bin]:
        """Adjacent bins from the smallest number to the largest: single numbers where they are few, else log-spaced."""
        if not self.counts:
            return []
        low, high = min(self.counts), max(self.counts)
        edges = range(low, high + 2) if high - low < _FEW else _spanning(low, high)
        bounds = list(zip(edges, edges[1:], strict=False))
        tally = dict.fromkeys(bounds, 0)
        position = 0
        for number, count in sorted(self.counts.items()):
            while number >= bounds[position][1]:
                position += 1
            tally[bounds[position]] += count
        return [Bin(low=start, high=end - 1, count=count) for (start, end), count in tally.items()]


def merged(parts: Iterable[Distribution]) -> Distribution:
    """The distribution of all the numbers together."""
    counts: dict[int, int] = {}
    for part in parts:
        for number, count in part.counts.items():
            counts[number] = counts.get(number, 0) + count
    return Distribution(counts=counts)


def _spanning(low: int, high: int) -> tuple[int, ...]:
    """The edges from the last that is not above `low` to the first that is above `high`."""
    first = max(index for index, edge in enumerate(_EDGES) if edge <= low)
    last = next(index for index, edge in enumerate(_EDGES) if edge > high)
    return _EDGES[first : last + 1]
