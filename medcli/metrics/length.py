"""How long the answers are; what a change of other metrics may come from."""

from collections.abc import Sequence

from medcli.core.score import Answer, Score

HELP = "length: characters (Unicode code points) of the answer, blank space not counted"


def scores(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """A number of characters per answer."""
    return {"length": [float(len("".join(answer.text.split()))) for answer in answers]}


def figures(answers: Sequence[Answer], seed: int) -> list[Score]:
    """None: the mean says it."""
    return []
