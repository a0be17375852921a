"""The right answer: the letters of an exam question, or the reference itself."""

from collections.abc import Sequence

from medcli.core.letters import chosen_letters, options_of, sorted_letters
from medcli.core.reading import Asked
from medcli.core.sameness import is_same

HELP = "1 for the right answer: of an exam question the letters chosen, else the reference itself"


def rewards(asked: Sequence[Asked], answers: Sequence[str]) -> list[float]:
    """1 where the answer is right, else 0; where no right answer is known always 0, which teaches nothing.

    A question with lettered options whose reference is among those letters is an exam's: the order of several letters
    does not matter, nor what is said around them. Any other answer must be the reference, but for width, white space
    and final punctuation.
    """
    return [float(_is_right(one, answer)) for one, answer in zip(asked, answers, strict=True)]


def _is_right(asked: Asked, answer: str) -> bool:
    options = options_of(asked.messages[-1].content)
    if asked.reference and set(asked.reference) <= options.keys():
        return chosen_letters(answer, options) == sorted_letters(asked.reference)
    return is_same(answer, asked.reference)
