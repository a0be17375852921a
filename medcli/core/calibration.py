"""How far a confidence can be trusted: calibration error, and what is gained by not answering where it is low."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medcli.core.score import COVERED, RESAMPLES, Score, resampled

if TYPE_CHECKING:
    import numpy
    import numpy.typing as npt

BINS = 10  # of predicted probabilities
COVERAGE = 0.8  # share of questions answered, the surest first, at which a risk is reported


def in_bins(predicted: Sequence[tuple[float, float]]) -> list[list[float]]:
    """(3, BINS): how many predictions fall into each bin, their summed probabilities, and how many came true.

    `predicted` are pairs of a probability and whether it came true, 1 or 0.
    """
    table = [[0.0] * BINS for _ in range(3)]
    for probability, true in predicted:
        place = min(int(probability * BINS), BINS - 1)
        for row, value in zip(table, (1.0, probability, true), strict=True):
            row[place] += value
    return table


def calibration(sums: "npt.NDArray[numpy.float64]") -> "npt.NDArray[numpy.float64]":
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017): sum over bins of share × |right - predicted|.

    `sums` has the shape (…, 3, BINS), as `in_bins` gives it.
    """
    import numpy

    count, predicted, true = numpy.moveaxis(sums, -2, 0)
    error: npt.NDArray[numpy.float64] = numpy.abs(true - predicted).sum(-1) / count.sum(-1)
    return error


def of_choices(confidences: Sequence[float], right: Sequence[float], seed: int) -> list[Score]:
    """ece, and of answering the surest questions only: aurc and the risk at COVERAGE; each with a bootstrap interval.

    confidences: the probability of the answer chosen; right: 1 or 0; neither may be empty.
    """
    import numpy

    sure, wrong = numpy.array(confidences), 1 - numpy.array(right, dtype=numpy.float64)
    draw = numpy.random.default_rng(seed)
    rows = [draw.integers(len(sure), size=len(sure)) for _ in range(RESAMPLES)]
    curves = [risks(sure[some], wrong[some]) for some in rows]
    parts = [in_bins([pair]) for pair in zip(confidences, right, strict=True)]
    return [
        resampled("ece", parts, calibration, seed),
        _percentiles("aurc", area(risks(sure, wrong)), [area(curve) for curve in curves], len(sure)),
        _percentiles(
            f"risk-at-{COVERAGE:.0%}", risk_at(risks(sure, wrong)), [risk_at(curve) for curve in curves], len(sure)
        ),
    ]


def risks(sure: "npt.NDArray[numpy.float64]", wrong: "npt.NDArray[numpy.float64]") -> "npt.NDArray[numpy.float64]":
    """(n,) the share of errors among the 1, 2, … n surest answers; equally sure ones are taken as equally wrong.

    El-Yaniv & Wiener 2010, "On the foundations of noise-free selective classification".
    """
    import numpy

    levels, level = numpy.unique(-sure, return_inverse=True)
    count = numpy.bincount(level, minlength=len(levels))
    errors = numpy.bincount(level, weights=wrong, minlength=len(levels))
    each = numpy.repeat(errors / count, count)
    found: npt.NDArray[numpy.float64] = each.cumsum() / numpy.arange(1, len(sure) + 1)
    return found


def area(curve: "npt.NDArray[numpy.float64]") -> float:
    """The area under the risk–coverage curve (AURC; Geifman, Uziel & El-Yaniv 2019): the mean risk; less is better."""
    return float(curve.mean())


def risk_at(curve: "npt.NDArray[numpy.float64]", coverage: float = COVERAGE) -> float:
    """The share of errors when only so large a share of the questions, the surest, is answered."""
    return float(curve[max(0, round(coverage * len(curve)) - 1)])


def _percentiles(metric: str, value: float, resamples: Sequence[float], count: int) -> Score:
    ordered = sorted(resamples)
    tail = round(RESAMPLES * (1 - COVERED) / 2)
    return Score(metric=metric, value=value, count=count, low=ordered[tail], high=ordered[-tail - 1])
