"""Distinct-1 and distinct-2: how varied all answers together are (Li et al. 2016), on characters."""

import random
from collections.abc import Iterator, Sequence
from statistics import fmean

from medcli.core.score import Answer, Score

HELP = "distinct-1, -2: different characters and pairs of them, over all there are in all answers; more text, less"
GROUPS = 20
# Student's t at 97.5 % for 1 to 19 degrees of freedom.
_T: tuple[float, ...] = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_T += (2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093)
_SEVERAL = -1  # groups


def scores(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """None: one answer's words vary more the shorter it is. Within an answer there is the rate of repetition."""
    return {}


def figures(answers: Sequence[Answer], seed: int) -> list[Score]:
    """distinct-1 and distinct-2, from 0 to 1; only answers of like number and length compare."""
    if not answers:
        return []
    groups = [index % GROUPS for index in range(len(answers))]
    random.Random(seed).shuffle(groups)
    return [_distinct(answers, groups, size) for size in (1, 2)]


def _distinct(answers: Sequence[Answer], groups: Sequence[int], size: int) -> Score:
    """Different n-grams over all n-grams, with the interval of a delete-a-group jackknife (Kott 2001).

    The bootstrap will not do: an answer that is drawn twice brings nothing new, so all its values lie too low. Here
    each group of answers is left out once, and what is left is nearly as much text as there is. On draws of 2 to 400
    answers of doctors it held the mean of all draws in 91 to 97 %. Of a single answer the interval is all there can be.
    """
    owner: dict[str, int] = {}  # of each n-gram the only group that has it
    totals = [0] * (max(groups) + 1)
    for answer, group in zip(answers, groups, strict=True):
        for gram in _grams(answer.text, size):
            totals[group] += 1
            if owner.setdefault(gram, group) != group:
                owner[gram] = _SEVERAL
    alone = [0] * len(totals)
    for group in owner.values():
        if group != _SEVERAL:
            alone[group] += 1
    every = sum(totals)
    value = _share(len(owner), every)
    without = [_share(len(owner) - own, every - total) for own, total in zip(alone, totals, strict=True)]
    low, high = _jackknife(value, without)
    return Score(metric=f"distinct-{size}", value=value, count=len(answers), low=low, high=high)


def _jackknife(value: float, without: Sequence[float]) -> tuple[float, float]:
    """The ends of a share's 95 % interval, from what the share is `without` each group."""
    count = len(without)
    if count == 1:
        return 0.0, 1.0
    middle = fmean(without)
    error = ((count - 1) / count * sum((one - middle) ** 2 for one in without)) ** 0.5
    return max(0.0, value - _T[count - 2] * error), min(1.0, value + _T[count - 2] * error)


def _share(different: int, every: int) -> float:
    return different / every if every else 0.0


def _grams(text: str, size: int) -> Iterator[str]:
    """The n-grams within one answer, blank space left out."""
    packed = "".join(text.split())
    return (packed[start : start + size] for start in range(len(packed) - size + 1))
