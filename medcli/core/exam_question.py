"""How an exam question is put to a model: the stem, its options under letters in some order, what to answer with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_uppercase

from medcli.core.record import Message, Question

_HAN = re.compile(r"[\u4e00-\u9fff]")
_KINDS = {False: "（单项选择题）", True: "（多项选择题）"}
_CHOOSE = {False: "请直接回答选项字母。", True: "请直接回答所有正确选项的字母。"}
_KINDS_IN_ENGLISH = {False: "(One option is right.) ", True: "(Several options are right.) "}
_CHOOSE_IN_ENGLISH = {
    False: "Answer with the letter of the right option only.",
    True: "Answer with the letters of all right options only.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A question with its options in an `order`: option number `order[0]` of the record is shown as A."""

    question: Question
    order: tuple[int, ...]

    @property
    def several(self) -> bool:
        """Whether several options are right."""
        return len(self.question.answer) > 1

    @property
    def shown(self) -> dict[str, str]:
        """The options by the letters they are shown under."""
        return {letter: self.question.choices[at] for letter, at in zip(ascii_uppercase, self.order, strict=False)}

    def of_record(self, letters: str) -> str:
        """Letters shown -> the record's own letters of the same options, sorted."""
        return "".join(sorted(ascii_uppercase[self.order[ascii_uppercase.index(letter)]] for letter in letters))

    def as_shown(self, letters: str) -> str:
        """The record's own letters -> those the same options are shown under, sorted."""
        return "".join(sorted(ascii_uppercase[self.order.index(ascii_uppercase.index(letter))] for letter in letters))

    def sets(self) -> list[str]:
        """What could be the answer: each letter; where several options are right, each set of two letters or more."""
        letters = ascii_uppercase[: len(self.order)]
        if not self.several:
            return list(letters)
        return ["".join(some) for size in range(2, len(letters) + 1) for some in combinations(letters, size)]


def in_order(question: Question) -> Put:
    """The question with its options as the record has them."""
    return Put(question=question, order=tuple(range(len(question.choices))))


def text_of(put: Put, *, kinds: bool = False) -> str:
    """The question with lettered options, asking for letters; with `kinds` it says whether several are right.

    A question without Chinese characters is asked in English.
    """
    lines = [f"{letter}. {text}" for letter, text in put.shown.items()]
    in_chinese = _HAN.search(put.question.stem + "".join(lines))
    kind = (_KINDS if in_chinese else _KINDS_IN_ENGLISH)[put.several] if kinds else ""
    choose = (_CHOOSE if in_chinese else _CHOOSE_IN_ENGLISH)[put.several and kinds]
    return "\n".join([f"{kind}{put.question.stem}", *lines, choose])


def as_turns(shots: Sequence[tuple[str, str]], asked: str, system: str | None) -> tuple[Message, ...]:
    """A dialogue: `shots` (question, answer) as earlier turns, then what is asked, after a system message if any."""
    opening = (Message(role="system", content=system),) if system is not None else ()
    turns = [
        message
        for question, answer in shots
        for message in (Message(role="user", content=question), Message(role="assistant", content=answer))
    ]
    return (*opening, *turns, Message(role="user", content=asked))
