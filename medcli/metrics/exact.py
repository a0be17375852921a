"""Exact match, after differences that carry no meaning are taken away."""

import unicodedata
from collections.abc import Sequence

from medcli.core.score import Answer

HELP = "exact match: equal but for full or half width, white space and final punctuation"
# What may end a sentence, after NFKC has made full-width forms narrow. "%" is no such mark: 5% is not 5.
_FINAL = "。、.!?;,:~"


def scores(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """1 where the answer is the reference, else 0; an empty answer is never right."""
    return {"exact": [float(is_same(answer.text, answer.reference)) for answer in answers]}


def is_same(text: str, reference: str) -> bool:
    """Whether both texts are the same once normalised, and not empty."""
    said = normalised(text)
    return bool(said) and said == normalised(reference)


def normalised(text: str) -> str:
    """The text in NFKC without white space and final punctuation; punctuation alone stays."""
    packed = "".join(unicodedata.normalize("NFKC", text).split())
    return packed.rstrip(_FINAL) or packed
