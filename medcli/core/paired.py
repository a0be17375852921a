"""Two models on the same items: how much they differ, and whether chance alone would make them differ as much."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

from medcli.core.score import COVERED, Score, resampled

if TYPE_CHECKING:
    import numpy
    import numpy.typing as npt

# Of these the lower figure is the better one, of all others the higher; risk-at-… is the share of errors at a coverage.
LEVEL = 1 - COVERED  # of p, below which a difference is said to be shown
DRAWS = 9_999  # signs drawn at random; with what was seen they make 10,000
_ENUMERATED = 16  # items up to which all 65,536 signs are tried instead
_AT_ONCE = 1 << 22  # random signs in memory
_TIE = 1e-9  # sums of the same numbers in another order differ by less


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much more the other model has than the one, and the ends of the 95 % interval of that."""

    value: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether the interval does not tell which of the two has more."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferred:
    """How often a judge who saw both answers preferred the other model's.

    `consistency` is the share of items, 0 to 1, of which it said the same when the answers changed places.
    """

    wins: int
    losses: int
    ties: int
    consistency: float

    @property
    def p(self) -> float:
        """The sign test's, two-sided, without the ties."""
        return mcnemar(self.losses, self.wins)


def are_shares(ones: Sequence[float], others: Sequence[float]) -> bool:
    """Whether all values are 0 or 1: right or wrong."""
    return {*ones, *others} <= {0, 1}


def difference(ones: Sequence[float], others: Sequence[float], seed: int, *, shares: bool) -> Difference:
    """The mean of others - ones over the same items, not empty, with its 95 % interval.

    Where the means are `shares`, of zeros and ones, the interval is `share_interval`, else `paired_bootstrap`.
    """
    gaps = [other - one for one, other in zip(ones, others, strict=True)]
    if shares:
        low, high = share_interval(gaps.count(-1), gaps.count(1), len(gaps))
    else:
        low, high = paired_bootstrap(gaps, seed)
    return Difference(value=fmean(gaps), low=low, high=high)


def p_value(ones: Sequence[float], others: Sequence[float], seed: int, *, shares: bool) -> float:
    """How often models that are alike would seem to differ as much: `mcnemar` of shares, else `sign_flip`."""
    gaps = [other - one for one, other in zip(ones, others, strict=True)]
    return mcnemar(gaps.count(-1), gaps.count(1)) if shares else sign_flip(gaps, seed)


def mcnemar(only_one: int, only_other: int) -> float:
    """McNemar's test (1947) in its exact form, two-sided: the binomial test of the items only one of the two got right.

    Under the null each such item is a fair coin; p is twice the smaller tail, and 1 where there is no such item.
    """
    items = only_one + only_other
    ways = tail = 1  # of getting so many heads, and so many or fewer, each from the last one
    for count in range(min(only_one, only_other)):
        ways = ways * (items - count) // (count + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << items))


def sign_flip(gaps: Sequence[float], seed: int) -> float:
    """The paired permutation test (Fisher 1935; approximate randomisation, Noreen 1989) of a mean of 0, two-sided.

    Under the null either answer could be either model's, so each gap may have either sign. It is taken rather than the
    bootstrap's p because that one finds differences where there are none more often (Riezler & Maxwell 2005). Of zeros
    and ones it is McNemar's. Up to 16 gaps all signs are tried; of more, DRAWS are drawn, and what was seen counts as
    one of them, so that p is never 0 (Phipson & Smyth 2010).
    """
    import numpy

    values = numpy.array([gap for gap in gaps if abs(gap) > _TIE], dtype=numpy.float64)
    seen = abs(float(values.sum())) - _TIE * float(abs(values).sum())
    if len(values) <= _ENUMERATED:
        return float(numpy.mean(abs(_all_sums(values)) >= seen))
    return (1 + _as_extreme(values, seen, seed)) / (1 + DRAWS)


def paired_bootstrap(gaps: Sequence[float], seed: int) -> tuple[float, float]:
    """The 95 % interval of the mean gap: percentile bootstrap over items (Efron 1979; of two systems, Koehn 2004)."""
    count = len(gaps)
    found = resampled("difference", gaps, lambda sums: sums / count, seed)
    return found.low, found.high


def share_interval(only_one: int, only_other: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a difference of two shares over the same `count` items (Bonett & Price 2012).

    Wald's after an item is added to both kinds of items on which the two differ: it covers what it says where items
    are few (Fagerland, Lydersen & Laake 2014), and has a width where the two do not differ at all.
    """
    ones, others = (only_one + 1) / (count + 2), (only_other + 1) / (count + 2)
    middle = others - ones
    half = NormalDist().inv_cdf((1 + COVERED) / 2) * sqrt((ones + others - middle * middle) / (count + 2))
    return max(-1.0, middle - half), min(1.0, middle + half)


def unpaired(one: Score, other: Score) -> Difference:
    """The difference of two figures that are no means of items, from their own intervals: Newcombe's (1998) squares.

    What the two have in common by answering the same items is not taken off, so the interval is rather too wide.
    """
    value = other.value - one.value
    below = sqrt((other.value - other.low) ** 2 + (one.high - one.value) ** 2)
    above = sqrt((other.high - other.value) ** 2 + (one.value - one.low) ** 2)
    return Difference(value=value, low=value - below, high=value + above)


def holm(ps: Sequence[float]) -> list[float]:
    """The p of each of several tests, adjusted so that all of them together stay below a level (Holm 1979)."""
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def _all_sums(values: "npt.NDArray[numpy.float64]") -> "npt.NDArray[numpy.float64]":
    """The sum under each of the 2^n choices of signs."""
    import numpy

    sums = numpy.zeros(1)
    for value in values:
        sums = numpy.concatenate([sums + value, sums - value])
    return sums


def _as_extreme(values: "npt.NDArray[numpy.float64]", seen: float, seed: int) -> int:
    """How many of DRAWS sums with random signs are as far from 0 as `seen`."""
    import numpy

    draw = numpy.random.default_rng(seed)
    count, total, found, left = len(values), values.sum(), 0, DRAWS
    while left:
        rows = min(left, max(1, _AT_ONCE // count))
        octets = draw.integers(256, size=(rows, -(-count // 8)), dtype=numpy.uint8)
        kept = numpy.unpackbits(octets, axis=1, count=count) @ values  # the sum of those whose sign is +
        found += int(numpy.count_nonzero(abs(2 * kept - total) >= seen))
        left -= rows
    return found
