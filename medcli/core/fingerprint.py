"""What makes two records, or two questions, the same: their text without white space, width and case."""

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b

from medcli.core.record import Conversation, Document, Preference, Question, Record

LEAK = 0.8  # share of a held-out item's 5-grams in a training text that makes it leaked: a few words may differ


# What NFKC leaves alone, and the punctuation of every Chinese text with what NFKC makes of it: 6 times as fast.
_RARE = re.compile("[^\x00-\x7f\u4e00-\u9fff、。《》【】“”‘’，：；？！（）％～…]")
_TWINS = {"，": ",", "：": ":", "；": ";", "？": "?", "！": "!", "（": "(", "）": ")", "％": "%", "～": "~", "…": "..."}
_SAYS_SOMETHING = 10  # characters
_NO_WORD = re.compile(r"[\W_]+")


@lru_cache(maxsize=8)  # a text is asked for by the duplicates gate and again for the split
def normal(text: str) -> str:
    """Text as it is compared: full and half width alike, no white space, no case."""
    if _RARE.search(text):
        text = unicodedata.normalize("NFKC", text)
    else:
        for wide, narrow in _TWINS.items():
            text = text.replace(wide, narrow)
    return "".join(text.split()).casefold()


def bare(text: str) -> str:
    """Text as likeness is measured: letters, digits and Chinese characters only, one width, one case."""
    text = _NO_WORD.sub("", text)
    if _RARE.search(text):
        text = _NO_WORD.sub("", unicodedata.normalize("NFKC", text))
    return text.casefold()


def fingerprint(*parts: str, seed: int = 0) -> int:
    """64 bits of the normalised parts: 8 bytes a row, one false match in 37,000 sets of a million rows."""
    digest = blake2b(digest_size=8, key=seed.to_bytes(8, "big", signed=True))
    for part in parts:
        digest.update(normal(part).encode("utf-8", "surrogatepass") + b"\0")
    return int.from_bytes(digest.digest(), "big")


def question_of(record: Record) -> str:
    """What a record asks, which must not stand in two splits: the first user message, or a whole document.

    A dialogue that opens with "你好" asks later, so messages are added until there is something to compare.
    """
    match record:
        case Conversation(messages=messages) | Preference(prompt=messages):
            asked = ""
            for message in messages:
                if message.role == "user" and len(asked) < _SAYS_SOMETHING:
                    asked = f"{asked}\n{message.content}" if asked else message.content
            return asked
        case Document():
            return record.text
        case Question():  # many share a stem: "下列说法正确的是"
            return "\n".join([record.stem, *sorted(record.choices)])


def asked_of(record: Record) -> tuple[str, ...]:
    """What a record asks in its parts: the stem and the options of an exam question, else one text."""
    return (record.stem, *record.choices) if isinstance(record, Question) else (question_of(record),)


def content_of(record: Record) -> list[str]:
    """All the text of a record, in order, with who says it."""
    match record:
        case Conversation():
            return [part for message in record.messages for part in (message.role, message.content)]
        case Preference():
            prompt = [part for message in record.prompt for part in (message.role, message.content)]
            return [*prompt, record.chosen, record.rejected]
        case Document():
            return [record.text]
        case Question():
            return [record.stem, *record.choices, record.answer]


def text_of(record: Record) -> str:
    """All the text of a record without who says it, as near-duplicates are measured by."""
    match record:
        case Conversation():
            return "\n".join(message.content for message in record.messages)
        case Preference():
            return "\n".join([*(message.content for message in record.prompt), record.chosen, record.rejected])
        case Document() | Question():
            return "\n".join(content_of(record))


def answer_of(record: Record) -> str:
    """What a model would learn to say, "" where nothing is answered."""
    match record:
        case Conversation():
            return "\n".join(message.content for message in record.messages if message.role == "assistant")
        case Preference():
            return f"{record.chosen}\n{record.rejected}"
        case Document() | Question():
            return ""
