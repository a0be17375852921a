"""Passages of a knowledge base: what one is, how a text is cut into them, and what was found for a question."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LENGTH = 300  # characters
_HEADING = re.compile(r"#{1,6}\s")
_SENTENCE = re.compile(r"[^。！？!?；;…]*[。！？!?；;…]+[”’」』）)]*|[^。！？!?；;…]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A few sentences, and where they stand: "guide.txt:12" or "huatuo/huatuo-7"; never a path from the root.

    Of a fact of a knowledge graph also the entity (`subject`), its other names, and the attribute as files have it.
    """

    text: str
    source: str
    subject: str = ""
    aliases: tuple[str, ...] = ()
    attribute: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A passage that fits a question. `score` is the share of what is asked that it has, from 0 to 1.

    `exact` is a fact that was asked for by the name of its entity and of its attribute.
    """

    passage: Passage
    score: float
    exact: bool = False


def cut(lines: Iterable[tuple[int, str]], length: int) -> Iterator[tuple[int, str]]:
    """(line where it begins, text) of pieces of at most `length` characters, cut at the ends of lines and sentences.

    Short lines stand together; a heading begins a piece, and a blank line ends one that is half full. Only a sentence
    longer than `length` is cut within, after a comma where it has one.
    """
    first, piece = 0, ""
    for line, unit in _units(lines, length):
        full = len(piece) + len(unit.rstrip()) > length or _HEADING.match(unit)
        if piece.strip() and (full or (not unit.strip() and len(piece) >= length // 2)):
            yield first, piece.strip()
            piece = ""
        if not piece.strip():
            first, piece = line, ""
        piece += unit
    if piece.strip():
        yield first, piece.strip()


def cut_text(text: str, length: int) -> list[str]:
    """The pieces of a text."""
    return [piece for _, piece in cut(enumerate(text.split("\n")), length)]


def _units(lines: Iterable[tuple[int, str]], length: int) -> Iterator[tuple[int, str]]:
    """Lines, and the sentences of long ones; each line's last unit ends with its line end."""
    for line, text in lines:
        text = text.strip()
        sentences = [text] if len(text) <= length else _SENTENCE.findall(text)
        units = [part for sentence in sentences for part in _short(sentence, length)]
        for unit in units[:-1]:
            yield line, unit
        yield line, f"{units[-1] if units else ''}\n"


def _short(sentence: str, length: int) -> list[str]:
    if len(sentence) <= length:
        return [sentence]
    return re.findall(rf".{{1,{length}}}(?:$|(?<=[，,、：:\s]))|.{{1,{length}}}", sentence, re.DOTALL)
