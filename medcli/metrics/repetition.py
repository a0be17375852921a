"""How much an answer repeats itself, the mark of a model that has lost its thread."""

from collections.abc import Sequence

from medcli.core.score import Answer, Score

HELP = "repetition (seq-rep-4): the share of an answer's 4-grams of characters that were there before; less is better"
SIZE = 4


def scores(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """One value from 0 to 1 per answer; an answer that says nothing repeats nothing."""
    return {"repetition": [repetition(answer.text) for answer in answers]}


def figures(answers: Sequence[Answer], seed: int) -> list[Score]:
    """None: the mean says it."""
    return []


def repetition(text: str) -> float:
    """1 - different / all 4-grams (Welleck et al. 2019), of characters without blank space; 0 below four characters."""
    packed = "".join(text.split())
    count = len(packed) - SIZE + 1
    if count < 1:
        return 0.0
    return 1 - len({packed[start : start + SIZE] for start in range(count)}) / count
