"""The length of an answer, measured by that of the reference."""

from collections.abc import Sequence

from medcli.core.reading import Asked

HELP = "1 for an answer up to half as long again as the reference, then less the longer it is; 0 for silence"
ROOM = 1.5  # of the reference's length
SHORTEST = 20  # characters that a reference counts for at least: letters may be said in a sentence


def rewards(asked: Sequence[Asked], answers: Sequence[str]) -> list[float]:
    """From 0 to 1: min(1, room / n) of an answer with n characters, where room = 1.5 × max(reference, 20 characters).

    Where no reference is known every answer gets 1, which teaches nothing; an empty answer gets 0.
    """
    return [_of(one.reference, len(answer.strip())) for one, answer in zip(asked, answers, strict=True)]


def _of(reference: str, length: int) -> float:
    if length == 0:
        return 0.0
    return min(1.0, ROOM * max(len(reference), SHORTEST) / length) if reference else 1.0
