"""BLEU-4 on characters, as the field reports it for Chinese."""

import math
from collections import Counter
from collections.abc import Sequence

from medcli.core.score import Answer, Score

HELP = "BLEU-4 on characters, NIST smoothing: which stretches of 1 to 4 characters are in the reference too"
ORDER = 4


def scores(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """One value from 0 to 1 per answer."""
    return {"bleu-4": [sentence_bleu(answer.text, answer.reference) for answer in answers]}


def figures(answers: Sequence[Answer], seed: int) -> list[Score]:
    """None: BLEU of all answers together is the metric `corpus_bleu`."""
    return []


def sentence_bleu(text: str, reference: str) -> float:
    """BLEU (Papineni et al. 2002) of one answer: brevity penalty × geometric mean of the n-gram precisions.

    Equal to nltk's `sentence_bleu([list(reference)], list(text), smoothing_function=…method3)`. Its smoothing
    is NIST's (Chen & Cherry 2014, method 3): the k-th empty precision counts as 1 / 2^k of a match.
    """
    matched = [_matches(text, reference, size) for size in range(1, ORDER + 1)]
    if matched[0] == 0:  # nothing in common, or one of the two is empty
        return 0.0
    logarithms = []
    empty = 0
    for size, count in enumerate(matched, 1):
        empty += count == 0
        # A text shorter than n has no n-gram, and nltk counts that as one missed.
        possible = max(1, len(text) - size + 1)
        logarithms.append(math.log((count or 2.0**-empty) / possible))
    return _brevity(len(text), len(reference)) * math.exp(math.fsum(logarithms) / ORDER)


def _matches(text: str, reference: str, size: int) -> int:
    """How many n-grams of the text the reference has too, each at most as often as there."""
    return (_grams(text, size) & _grams(reference, size)).total()


def _grams(text: str, size: int) -> Counter[str]:
    return Counter(text[start : start + size] for start in range(len(text) - size + 1))


def _brevity(length: int, wanted: int) -> float:
    return 1.0 if length > wanted else math.exp(1 - wanted / length)
