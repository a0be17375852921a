"""A figure of an evaluation, with the interval it may be trusted in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any

RESAMPLES = 1000
COVERED = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said, and what it should have said."""

    text: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A metric's value over `count` things, and the ends of its 95 % interval."""

    metric: str
    value: float
    count: int
    low: float
    high: float


def score_of(metric: str, values: Sequence[float], seed: int = 0) -> Score:
    """The mean of `values` with its 95 % interval; `values` must not be empty.

    Of zeros and ones, a share, it is Wilson's, which is not fooled by few or equal values; else a bootstrap.
    """
    if set(values) <= {0, 1}:
        low, high = wilson(sum(values), len(values))
    else:
        low, high = interval(values, seed)
    return Score(metric=metric, value=fmean(values), count=len(values), low=low, high=high)


def wilson(right: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, `right` of `count` (Wilson 1927; Brown, Cai & DasGupta 2001)."""
    z = NormalDist().inv_cdf((1 + COVERED) / 2)
    share, weight = right / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / weight
    half = z / weight * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean: percentile bootstrap (Efron 1979) of RESAMPLES seeded resamples.

    It has no width when all values are alike, however few they are.
    """
    import numpy

    draw, column = numpy.random.default_rng(seed), numpy.array(values, dtype=numpy.float64)
    count = len(column)
    means = sorted(float(column[draw.integers(count, size=count)].mean()) for _ in range(RESAMPLES))
    tail = round(RESAMPLES * (1 - COVERED) / 2)
    return means[tail], means[-tail - 1]


def resampled(metric: str, parts: Sequence[Any], statistic: Callable[[Any], Any], seed: int = 0) -> Score:
    """A statistic of sums over things, with the same bootstrap; `parts`, not empty, are what each thing adds.

    `statistic` takes sums of the shape (…, *shape of a part) and gives values of the shape (…).
    """
    import numpy

    draw, rows = numpy.random.default_rng(seed), numpy.array(parts, dtype=numpy.float64)
    count = len(rows)
    sums = numpy.stack([rows[draw.integers(count, size=count)].sum(0) for _ in range(RESAMPLES)])
    values = numpy.sort(statistic(sums))
    tail = round(RESAMPLES * (1 - COVERED) / 2)
    value = float(statistic(rows.sum(0)))
    return Score(metric=metric, value=value, count=count, low=float(values[tail]), high=float(values[-tail - 1]))
