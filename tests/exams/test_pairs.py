"""The figures of judged pairs, against naive references and cases known beforehand."""

import math
import random
import statistics

import pytest

from medcli.exams import pairs
from medcli.exams.pairs import Judged


def judged(*rows):
    """Pairs of (better reward, worse reward, better length, worse length)."""
    return [Judged(id=str(n), source="hand", rewards=row[:2], lengths=row[2:]) for n, row in enumerate(rows)]


def figures(rows, seed=1):
    return {score.metric: score for score in pairs.figures(rows, seed)}


@pytest.fixture(scope="module")
def noisy():
    """300 pairs whose margins are half noise, and whose rewards grow with length."""
    draw = random.Random(5)
    rows = []
    for _ in range(300):
        lengths = (draw.randrange(5, 60), draw.randrange(5, 60))
        rows.append((draw.gauss(1, 2) + lengths[0] / 20, draw.gauss(0, 2) + lengths[1] / 20, *lengths))
    return judged(*rows)


def test_a_judge_without_error_is_right_and_sure():
    found = figures(judged((9.0, -9.0, 10, 20), (9.0, -9.0, 20, 10)))
    assert found["accuracy"].value == 1
    assert found["margin"].value == 18
    assert found["log-loss"].value == pytest.approx(math.log1p(math.exp(-18)))
    assert (found["ece"].value, found["brier"].value) == pytest.approx((0, 0), abs=1e-6)
    assert found["length-correlation"].value == pytest.approx(0)
    assert found["longer-preferred"].value == found["longer-right"].value == 0.5


def test_ties_are_half_right():
    found = figures(judged((1.0, 1.0, 3, 4), (1.0, 0.0, 3, 4), (0.0, 2.0, 4, 3)))
    assert found["accuracy"].value == 0.5
    assert found["longer-preferred"].value == pytest.approx((0.5 + 0 + 0) / 3)
    assert found["longer-right"].value == pytest.approx(1 / 3)


def test_a_judge_by_length_is_found_out():
    rows = [(float(a), float(b), a, b) for a, b in ((5, 9), (12, 30), (40, 8), (7, 21))]
    found = figures(judged(*rows))
    assert found["length-correlation"].value == pytest.approx(1)
    assert found["longer-preferred"].value == 1
    assert found["longer-right"].value == 0.25


def test_every_figure_equals_its_naive_reference(noisy):
    found = figures(noisy)
    won = [1 / (1 + math.exp(-pair.margin)) for pair in noisy]
    both = [(p, 1) for p in won] + [(1 - p, 0) for p in won]
    assert found["log-loss"].value == pytest.approx(statistics.fmean(-math.log(p) for p in won))
    assert found["brier"].value == pytest.approx(statistics.fmean((p - true) ** 2 for p, true in both))
    ece = 0.0
    for low in range(10):
        inside = [(p, true) for p, true in both if low / 10 <= p < (low + 1) / 10 or p == low + 1 == 10]
        if inside:
            gap = statistics.fmean(true for _, true in inside) - statistics.fmean(p for p, _ in inside)
            ece += len(inside) / len(both) * abs(gap)
    assert found["ece"].value == pytest.approx(ece)
    rewards = [reward for pair in noisy for reward in pair.rewards]
    lengths = [length for pair in noisy for length in pair.lengths]
    assert found["length-correlation"].value == pytest.approx(statistics.correlation(rewards, lengths))


def test_intervals_hold_their_figure_and_are_repeatable(noisy):
    found = figures(noisy)
    assert found == figures(noisy)
    for score in found.values():
        assert score.low < score.value < score.high, score
    assert found["ece"].high - found["ece"].low < 0.15
    assert found["length-correlation"].low > 0


def test_one_sidedness_is_no_calibration():
    """A judge that says 65 % and is right in 65 % is calibrated, whichever answer stands first."""
    apart = math.log(0.65 / 0.35)
    calibrated = judged(*[(apart, 0.0, 1, 2)] * 65, *[(0.0, apart, 1, 2)] * 35)
    assert figures(calibrated)["ece"].value == pytest.approx(0, abs=1e-9)
    bold = judged(*[(9.0, 0.0, 1, 2)] * 60, *[(0.0, 9.0, 1, 2)] * 40)
    assert figures(bold)["ece"].value == pytest.approx(0.4, abs=1e-3)


def test_what_cannot_be_measured_is_left_out():
    assert not {"length-correlation", "longer-right"} & figures(judged((1.0, 0.0, 7, 7), (2.0, 1.0, 7, 7))).keys()
    assert "length-correlation" not in figures(judged((1.0, 1.0, 3, 4), (1.0, 1.0, 5, 4)))


def test_huge_margins_do_not_overflow():
    found = figures(judged((1e4, -1e4, 3, 4), (-1e4, 1e4, 3, 4)))
    assert found["log-loss"].value == 1e4
    assert found["brier"].value == 0.5
