"""Exact match, after differences that carry no meaning are taken away."""

from collections.abc import Sequence

from medcli.core.sameness import is_same
from medcli.core.score import Answer, Score

HELP = "exact match: equal but for full or half width, white space and final punctuation"


def scores(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """1 where the answer is the reference, else 0; an empty answer is never right."""
    return {"exact": [float(is_same(answer.text, answer.reference)) for answer in answers]}


def figures(answers: Sequence[Answer], seed: int) -> list[Score]:
    """None: the mean says it."""
    return []
