"""What a token says, byte by byte, and how likely it was."""

import re
from functools import lru_cache
from typing import Any

from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from medcli.core.serving import TokenChance

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # a byte that is a token, as in sentencepiece's vocabularies


def chance_of(tokenizer: Any, token: int, logits: Tensor, others: int) -> TokenChance:
    """The log-probability of `token` among logits [vocabulary], in nat, and those of so many of the likeliest ones."""
    likely = logits.float().log_softmax(-1)
    found = likely.topk(others)
    every = [
        (tokenizer.decode([other]), raw_of(tokenizer, other), value)
        for other, value in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]
    return TokenChance(
        text=tokenizer.decode([token]),
        raw=raw_of(tokenizer, token),
        log_probability=float(likely[token]),
        others=tuple(every),
    )


def raw_of(tokenizer: Any, token: int) -> bytes:
    """The bytes that a token stands for: of a token that is a part of a character, its text does not tell."""
    written = str(tokenizer.convert_ids_to_tokens(token))
    if byte := _BYTE.fullmatch(written):
        return bytes([int(byte[1], 16)])
    text: str = tokenizer.decode([token])
    if "\ufffd" in text and all(letter in _letters() for letter in written):
        return bytes(_letters()[letter] for letter in written)
    return text.encode()


@lru_cache(maxsize=1)
def _letters() -> dict[str, int]:
    """The letters that byte-level vocabularies write bytes with (GPT-2)."""
    return {letter: byte for byte, letter in bytes_to_unicode().items()}
