"""ROUGE-1, ROUGE-2 and ROUGE-L on jieba's words, equal to what the package rouge-chinese gives.

That package keeps the whole table of the longest common subsequence in a dict (4.3 s and 628 MB for two texts
of 2,000 words) and raises on empty text. Here the table is one row of bits, and empty text scores 0. jieba's time grows
with the square of a stretch of characters that are in no word of its dictionary; here it does not.
"""

import logging
import re
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from medcli.core.score import Answer, Score
from medcli.core.settings import folder

HELP = "ROUGE-1, -2 and -L on jieba's words (F): words, word pairs and words in order that both texts share"
# rouge-chinese adds this to every denominator, so equal texts score 1 - 5e-9.
_NEVER_ZERO = 1e-8
BLOCK = 4096  # words of one text that are compared at one time; 512 bytes for each word that differs
# Where rouge-chinese ends a sentence, in its order. A sentence end may fall inside a word such as "......x".
_SENTENCE_ENDS = (
    re.compile(r"([。！？?])([^”’])"),
    re.compile(r"(\.{6})([^”’])"),
    re.compile(r"(…{2})([^”’])"),
    re.compile(r"([。！？?][”’])([^，。！？?])"),
)


def scores(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """One value from 0 to 1 per answer and variant."""
    rows = [rouge(segment(answer.text), segment(answer.reference)) for answer in answers]
    return {name: [row[name] for row in rows] for name in ("rouge-1", "rouge-2", "rouge-l")}


def figures(answers: Sequence[Answer], seed: int) -> list[Score]:
    """None: the means say it."""
    return []


def rouge(text: str, reference: str) -> dict[str, float]:
    """The F-measures (Lin 2004) of two texts whose words stand between spaces.

    As in rouge-chinese, ROUGE-N counts every n-gram once however often it stands there, and ROUGE-L is the
    longest common subsequence of the whole texts, not of their sentences.
    """
    said, wanted = _words(text), _words(reference)
    if not said or not wanted:
        return {"rouge-1": 0.0, "rouge-2": 0.0, "rouge-l": 0.0}
    return {
        "rouge-1": _f_of_sets(set(said), set(wanted)),
        "rouge-2": _f_of_sets(_pairs(said), _pairs(wanted)),
        "rouge-l": _f_measure(common_subsequence(said, wanted), len(said), len(wanted)),
    }


def common_subsequence(one: Sequence[Hashable], other: Sequence[Hashable], block: int = BLOCK) -> int:
    """The length of the longest common subsequence, rows of the table in one integer, and memory linear in the texts.

    Hyyrö 2004, "Bit-parallel LCS-length computation revisited": a zero bit in a row is a step up by one. Of a long text
    a block is compared after the other, and what an addition carries out of one goes into the next.
    """
    carried = bytearray(len(other))
    return sum(_common_of_block(one[start : start + block], other, carried) for start in range(0, len(one), block))


def _common_of_block(block: Sequence[Hashable], other: Sequence[Hashable], carried: bytearray) -> int:
    """The steps within a block; `carried` holds a bit for each item of `other`, and is changed."""
    places: dict[Hashable, int] = {}
    for index, item in enumerate(block):
        places[item] = places.get(item, 0) | (1 << index)
    size = len(block)
    every = (1 << size) - 1
    row = every
    for column, item in enumerate(other):
        hit = row & places.get(item, 0)
        added = row + hit + carried[column]
        carried[column] = added >> size
        row = (added | (row - hit)) & every
    return size - row.bit_count()


def segment(text: str) -> str:
    """The text with a space between its words, as jieba cuts them."""
    return " ".join(_jieba().cut(text))


@cache
def _jieba() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its source has escapes that newer Pythons warn of
        import jieba
    jieba.setLogLevel(logging.CRITICAL)
    jieba.finalseg.viterbi = likeliest_states
    # A cutter of our own keeps its cache in our folder; jieba's is a file in /tmp that anyone may write.
    cutter = jieba.Tokenizer()
    cutter.tmp_dir = str(folder("cache"))
    with suppress(OSError):  # without a cache the dictionary is read anew, 0.6 s
        folder("cache").mkdir(parents=True, exist_ok=True)
    return cutter


def likeliest_states(
    text: Sequence[str],
    states: str,
    start: Mapping[str, float],
    steps: Mapping[str, Mapping[str, float]],
    emissions: Mapping[str, Mapping[str, float]],
) -> tuple[float, list[str]]:
    """Where characters stand in unknown words (Begin, Middle, End, Single), and the log-probability: jieba's `viterbi`.

    It gives the same, ties included, and takes the place of jieba's, which copies every path at every character (3.7 s
    for 20,000 rare ones). `text` must not be empty.
    """
    from jieba.finalseg import MIN_FLOAT, PrevStatus

    moves = {state: [(before, steps[before].get(state, MIN_FLOAT)) for before in PrevStatus[state]] for state in states}
    row = {state: start[state] + emissions[state].get(text[0], MIN_FLOAT) for state in states}
    back: list[dict[str, str]] = []
    for character in text[1:]:
        pointers, chances = {}, {}
        for state in states:
            emission = emissions[state].get(character, MIN_FLOAT)
            chances[state], pointers[state] = max(
                [(row[before] + move + emission, before) for before, move in moves[state]]
            )
        row = chances
        back.append(pointers)
    chance, last = max((row[state], state) for state in "ES")
    path = [last]
    for pointers in reversed(back):
        path.append(pointers[path[-1]])
    return chance, path[::-1]


def _words(text: str) -> list[str]:
    """The words of all sentences; a blank line holds one empty word, as in rouge-chinese."""
    for end in _SENTENCE_ENDS:
        text = end.sub(r"\1\n\2", text)
    return [word for line in text.rstrip().split("\n") if line for word in (line.split() or [""])]


def _pairs(words: Sequence[str]) -> set[tuple[str, str]]:
    return set(zip(words, words[1:], strict=False))


def _f_of_sets(said: Iterable[Hashable], wanted: Iterable[Hashable]) -> float:
    said, wanted = set(said), set(wanted)
    return _f_measure(len(said & wanted), len(said), len(wanted))


def _f_measure(common: int, said: int, wanted: int) -> float:
    precision = common / said if said else 0.0
    recall = common / wanted if wanted else 0.0
    return 2.0 * ((precision * recall) / (precision + recall + _NEVER_ZERO))
