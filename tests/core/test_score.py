"""Intervals: the bootstrap of a mean, and Wilson's of a share."""

import random
import time
from statistics import fmean, stdev

import pytest

from medcli.core.score import interval, resampled, score_of, wilson


def test_is_near_the_normal_interval_and_quick():
    draw = random.Random(5)
    values = [draw.random() for _ in range(1000)]
    started = time.perf_counter()
    low, high = interval(values)
    assert time.perf_counter() - started < 3  # 0.2 s where nothing else runs
    half = 1.96 * stdev(values) / len(values) ** 0.5
    assert low == pytest.approx(fmean(values) - half, abs=half / 5)
    assert high == pytest.approx(fmean(values) + half, abs=half / 5)


def test_covers_what_it_says():
    draw = random.Random(6)
    covered = 0
    for seed in range(100):
        low, high = interval([draw.random() for _ in range(60)], seed)
        covered += low <= 0.5 <= high
    assert 88 <= covered <= 100


def test_is_repeatable_and_holds_the_mean():
    score = score_of("exact", [0.0, 1.0, 1.0, 0.0, 1.0], seed=7)
    assert score == score_of("exact", [0.0, 1.0, 1.0, 0.0, 1.0], seed=7)
    assert score.low <= score.value <= score.high
    assert (score.value, score.count) == (0.6, 5)


def test_one_value_has_no_width():
    assert interval([0.25]) == (0.25, 0.25)


def test_a_share_has_the_interval_of_wilson():
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)  # R: prop.test(8, 10, correct = FALSE)
    assert wilson(0, 5) == pytest.approx((0.0, 0.4344825), abs=1e-6)
    score = score_of("exact", [1.0, 1.0, 1.0])
    assert (score.value, score.high) == (1.0, 1.0)
    assert score.low == pytest.approx(0.438503, abs=1e-6)


def test_a_statistic_of_sums_has_the_interval_of_its_resamples():
    draw = random.Random(7)
    pairs = [(draw.random(), 1.0) for _ in range(400)]
    score = resampled("ratio", pairs, lambda sums: sums[..., 0] / sums[..., 1], seed=3)
    low, high = interval([one for one, _ in pairs], seed=3)
    assert score.value == pytest.approx(fmean(one for one, _ in pairs))
    assert (score.low, score.high) == pytest.approx((low, high), abs=0.01)
    assert score == resampled("ratio", pairs, lambda sums: sums[..., 0] / sums[..., 1], seed=3)
