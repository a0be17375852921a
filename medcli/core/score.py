"""A figure of an evaluation, with the interval it may be trusted in."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

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
    """The mean of `values` with its bootstrap interval; `values` must not be empty."""
    low, high = interval(values, seed)
    return Score(metric=metric, value=fmean(values), count=len(values), low=low, high=high)


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean: percentile bootstrap (Efron 1979) of RESAMPLES seeded resamples.

    It has no width when all values are alike, however few they are.
    """
    draw = random.Random(seed)
    count = len(values)
    means = sorted(sum(draw.choices(values, k=count)) / count for _ in range(RESAMPLES))
    tail = round(RESAMPLES * (1 - COVERED) / 2)
    return means[tail], means[-tail - 1]
