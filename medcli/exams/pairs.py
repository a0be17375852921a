"""Pairs of answers: a reward model gives each answer a number, and the better one is to get the higher.

The metrics of `medcli.metrics` compare an answer with a reference; those of pairs are made from two rewards, and stand
here with what they measure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcli.core.record import Message, Preference
from medcli.core.score import Score, resampled, score_of

if TYPE_CHECKING:
    import numpy
    import numpy.typing as npt

HELP = "a reward model judges both answers to each prompt"
KIND = "preference"  # of data set
BINS = 10  # of predicted probabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The rewards of a pair's better and worse answer, and how long these are in characters."""

    id: str
    source: str
    rewards: tuple[float, float]
    lengths: tuple[int, int]

    @property
    def margin(self) -> float:
        """How much higher the better answer's reward is."""
        return self.rewards[0] - self.rewards[1]


def dialogues_of(record: Preference) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The prompt with the better answer, and with the worse one."""
    better, worse = (Message(role="assistant", content=text) for text in (record.chosen, record.rejected))
    return (*record.prompt, better), (*record.prompt, worse)


def scores(judged: Sequence[Judged], seed: int) -> list[Score]:
    """What the rewards of pairs tell, each with its 95 % interval over pairs; `judged` must not be empty.

    accuracy: the share of pairs the right way round, where a tie is half right. margin: better - worse.
    log-loss, brier: of the probability sigmoid(margin) that the better answer wins (Bradley & Terry 1952); the first is
    the pairwise loss of the training, in nat. ece: see `calibration`.
    length-correlation: Pearson's r between reward and length over all answers. longer-preferred and longer-right: the
    shares of pairs in which the longer answer gets the higher reward, and in which it is the better one; the first one
    above the second is the known bias of reward models towards length (Singhal et al. 2023). Where lengths do not
    differ, or rewards do not, what cannot be measured is left out.
    """
    won = [win_probability(pair.margin) for pair in judged]
    found = [
        score_of("accuracy", [right(pair.margin) for pair in judged], seed),
        score_of("margin", [pair.margin for pair in judged], seed),
        score_of("log-loss", [_softplus(-pair.margin) for pair in judged], seed),
        score_of("brier", [(1 - probability) ** 2 for probability in won], seed),
        resampled("ece", [_oriented_both_ways(probability) for probability in won], calibration, seed),
    ]
    differ = [pair for pair in judged if pair.lengths[0] != pair.lengths[1]]
    if len({reward for pair in judged for reward in pair.rewards}) > 1 and len(_lengths(judged)) > 1:
        sums = [_products(pair) for pair in judged]
        found.append(resampled("length-correlation", sums, correlation, seed))
    if differ:
        found += [
            score_of("longer-preferred", [right(_towards_longer(pair)) for pair in differ], seed),
            score_of("longer-right", [float(pair.lengths[0] > pair.lengths[1]) for pair in differ], seed),
        ]
    return found


def right(margin: float) -> float:
    """1 for the right way round, 0 for the wrong one, a half for a tie."""
    return 0.5 if margin == 0 else float(margin > 0)


def win_probability(margin: float) -> float:
    """sigmoid(margin): how likely the first of two answers is the better one, by Bradley and Terry."""
    return math.exp(-_softplus(-margin))


def calibration(sums: "npt.NDArray[numpy.float64]") -> "npt.NDArray[numpy.float64]":
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017): sum over bins of share × |right - predicted|.

    That the better answer stands first says nothing of calibration: each pair is counted both ways round, with p for
    "the first one wins" and with 1 - p for "it does not". `sums` has the shape (…, 3, BINS): how many, their summed p,
    and how many came true.
    """
    import numpy

    count, predicted, true = numpy.moveaxis(sums, -2, 0)
    error: npt.NDArray[numpy.float64] = numpy.abs(true - predicted).sum(-1) / count.sum(-1)
    return error


def correlation(sums: "npt.NDArray[numpy.float64]") -> "npt.NDArray[numpy.float64]":
    """Pearson's r from the sums (…, 6) of 1, x, y, xx, yy, xy; 0 where one of the two does not vary."""
    import numpy

    count, x, y, xx, yy, xy = numpy.moveaxis(sums, -1, 0)
    spread = numpy.sqrt(numpy.maximum(count * xx - x * x, 0) * numpy.maximum(count * yy - y * y, 0))
    together = count * xy - x * y
    r: npt.NDArray[numpy.float64] = numpy.divide(
        together, spread, out=numpy.zeros_like(together), where=spread > 1e-12 * numpy.abs(together)
    )
    return r


def _oriented_both_ways(probability: float) -> list[list[float]]:
    table = [[0.0] * BINS for _ in range(3)]
    for predicted, true in ((probability, 1.0), (1 - probability, 0.0)):
        place = min(int(predicted * BINS), BINS - 1)
        for row, value in zip(table, (1.0, predicted, true), strict=True):
            row[place] += value
    return table


def _products(pair: Judged) -> list[float]:
    both = list(zip(pair.rewards, pair.lengths, strict=True))
    return [sum(values) for values in zip(*((1.0, x, y, x * x, y * y, x * y) for x, y in both), strict=True)]


def _towards_longer(pair: Judged) -> float:
    """How much higher the longer answer's reward is."""
    return pair.margin if pair.lengths[0] > pair.lengths[1] else -pair.margin


def _lengths(judged: Sequence[Judged]) -> set[int]:
    return {length for pair in judged for length in pair.lengths}


def _softplus(value: float) -> float:
    """log(1 + exp(value)) without overflow."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))
