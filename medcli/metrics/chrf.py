"""chrF: the F-measure of stretches of characters (Popović 2015), as sacrebleu gives it."""

from collections.abc import Sequence

from medcli.core.score import Answer, Score

HELP = "chrF2: stretches of 1 to 6 characters that both texts share, where recall weighs more than precision"


def scores(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """One value from 0 to 1 per answer: sacrebleu's `sentence_chrf` by its defaults, over 100."""
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    return {"chrf": [metric.sentence_score(answer.text, [answer.reference]).score / 100 for answer in answers]}


def figures(answers: Sequence[Answer], seed: int) -> list[Score]:
    """None: the mean says it."""
    return []
