"""Calibration and risk over coverage, against naive twins and cases known beforehand."""

import random
from statistics import fmean

import numpy
import pytest

from medcli.core.calibration import area, calibration, in_bins, of_choices, risk_at, risks


def naive_error(pairs):
    """Expected calibration error, bin by bin."""
    found = 0.0
    for low in range(10):
        some = [(p, true) for p, true in pairs if low <= p * 10 < low + 1 or (low == 9 and p == 1)]
        if some:
            found += len(some) / len(pairs) * abs(fmean(p for p, _ in some) - fmean(true for _, true in some))
    return found


def test_calibration_error_equals_its_naive_twin():
    draw = random.Random(2)
    pairs = [(draw.random(), float(draw.random() < 0.6)) for _ in range(500)]
    sums = numpy.sum([in_bins([pair]) for pair in pairs], axis=0)
    assert calibration(sums) == pytest.approx(naive_error(pairs))
    assert calibration(numpy.array(in_bins([(1.0, 1.0), (0.0, 0.0)]))) == pytest.approx(0)


def test_risk_falls_when_the_unsure_are_left_out():
    curve = risks(numpy.array([0.9, 0.8, 0.6, 0.5]), numpy.array([0.0, 0.0, 1.0, 1.0]))
    assert curve.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert area(curve) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert risk_at(curve, 0.5) == 0
    assert risk_at(curve, 1.0) == 0.5


def test_equally_sure_answers_are_equally_wrong_whatever_their_order():
    sure = numpy.array([0.5, 0.5, 0.9, 0.5])
    for wrong in ([1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]):
        assert risks(sure, numpy.array(wrong)).tolist() == pytest.approx([0, 1 / 6, 2 / 9, 1 / 4])


def test_each_figure_lies_in_its_interval_and_is_repeatable():
    draw = random.Random(4)
    confidences = [draw.random() for _ in range(200)]
    right = [float(draw.random() < p) for p in confidences]
    found = of_choices(confidences, right, seed=1)
    assert [score.metric for score in found] == ["ece", "aurc", "risk-at-80%"]
    assert found == of_choices(confidences, right, seed=1)
    for score in found[1:]:
        assert score.low < score.value < score.high
        assert score.count == 200
