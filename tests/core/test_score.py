"""The bootstrap interval."""

import random
import time
from statistics import fmean, stdev

import pytest

from medcli.core.score import interval, score_of


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
