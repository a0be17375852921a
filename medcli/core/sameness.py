"""When two answers are the same, after differences that carry no meaning are taken away."""

import unicodedata

# What may end a sentence, after NFKC has made full-width forms narrow. "%" is no such mark: 5% is not 5.
_FINAL = "。、.!?;,:~"


def is_same(text: str, reference: str) -> bool:
    """Whether both texts are the same once normalised, and not empty."""
    said = normalised(text)
    return bool(said) and said == normalised(reference)


def normalised(text: str) -> str:
    """The text in NFKC without white space and final punctuation; punctuation alone stays."""
    packed = "".join(unicodedata.normalize("NFKC", text).split())
    return packed.rstrip(_FINAL) or packed
