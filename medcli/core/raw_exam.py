"""What exam importers share: options and answers in all their spellings, and which part of an exam is its test."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from string import ascii_uppercase
from typing import Any

from medcli.core.peek import items
from medcli.core.raw import RawFile
from medcli.core.raw_rows import Refused, as_text, rows_from
from medcli.core.record import Question, Row

Ask = Callable[[RawFile, Mapping[str, Any], str], Question]

_PARTS = {"test": "test", "val": "val", "valid": "val", "validation": "val", "dev": "dev", "train": "train"}
# A question is for evaluation: the first of these that has answers is the test split.
_BEST_TEST = ("test", "val", "dev", "train")
_SPLITS = {"test": "test", "val": "valid", "dev": "valid", "train": "train"}
_ORDER = ("test", "valid", "train")  # held-out rows first: a repeat in train is refused
_SAMPLE = 20  # rows
_PAIR_KEYS = (("key", "value"), ("label", "text"))
_LETTERS = re.compile(r"[A-Z](?:[\s,、;/|+&]*[A-Z])*\.?")
_AFTER_LETTER = r"(?:[)）.．、:：]|\s|$)"


def exam_rows(files: Sequence[RawFile], ask: Ask) -> Iterator[Row]:
    """The rows of an exam's files, test first; `ask(raw, value, id)` gives the question or raises Refused.

    The split is in a file's or folder's name: dev and val are valid (for few-shot prompts), train is train, all else
    is test. Where no file of the test has an answer, as in C-Eval and MedMCQA, val (or dev, or train) is the test.
    """
    for raw in _placed(files, ask):
        for item in items(raw):
            yield from rows_from(raw, item, partial(ask, raw))


def question(id: str, source: str, stem: str, choices: tuple[str, ...], answer: Any, subject: str) -> Question:
    """A question whose answer is normalised; raises Refused when it cannot be asked or marked."""
    if len(choices) < 2:
        raise Refused("fewer than two options")
    letters = answer_of(answer, choices)
    return Question(id=id, stem=stem, choices=choices, answer=letters, subject=subject, source=source)


def choices_of(options: Any) -> tuple[str, ...]:
    """Option texts in the order A, B, C from `{"A": …}`, `[…]`, `[{"key": "A", "value": …}]` or "A … B …".

    Empty options at the end are left out. One in the middle raises Refused: it was a picture or got lost, and letters
    must not move.
    """
    match options:
        case Mapping():
            return _in_order(options.items())
        case list():
            return _in_order(_pairs(options))
        case str() if options.strip():
            return _in_order(zip(ascii_uppercase, _cut(options), strict=False))
    raise Refused("no options")


def answer_of(answer: Any, choices: Sequence[str]) -> str:
    """The letters of the right choices, sorted, from letters in any order ("CA", "A,C", ["A", "C"]) or a choice's text.

    A number raises Refused, for it may count from 0 or from 1.
    """
    given = answer if isinstance(answer, list) else [answer]
    letters = {letter for value in given for letter in _letters(value, choices)}
    if not letters:
        raise Refused("no answer")
    return "".join(sorted(letters))


def subject_of(raw: RawFile) -> str:
    """The subject that a file's name tells: "basic_medicine" for "val/basic_medicine_val.csv"."""
    words = re.split(r"([_-])", _stem(raw.name))
    while words and words[-1].lower() in (*_PARTS, "_", "-", ""):
        words.pop()
    return "".join(words)


def _placed(files: Sequence[RawFile], ask: Ask) -> list[RawFile]:
    parts = {raw: _part(raw.name) for raw in files}
    answered = (part for part in _BEST_TEST if any(_has_questions(raw, ask) for raw in files if parts[raw] == part))
    test = next(answered, "test")
    placed = [replace(raw, split="test" if part == test else _SPLITS[part]) for raw, part in parts.items()]
    return sorted(placed, key=lambda raw: _ORDER.index(raw.split))


def _part(name: str) -> str:
    """The part that the file's name says, else the innermost folder that says one."""
    for place in (_stem(name), *reversed(PurePosixPath(name).parts[:-1])):
        said = [_PARTS[word] for word in re.split(r"[^a-z]+", place.lower()) if word in _PARTS]
        if said:
            return said[-1]
    return "test"


def _has_questions(raw: RawFile, ask: Ask) -> bool:
    """Whether one of the first rows is a question with its answer."""
    first = islice(items(raw), _SAMPLE)
    return any(row.record is not None for item in first for row in rows_from(raw, item, partial(ask, raw)))


def _stem(name: str) -> str:
    return PurePosixPath(name.removesuffix(".gz")).stem


def _pairs(options: list[Any]) -> list[tuple[str, Any]]:
    for key, value in _PAIR_KEYS:
        if options and all(isinstance(option, Mapping) and key in option and value in option for option in options):
            return [(str(option[key]), option[value]) for option in options]
    return list(zip(ascii_uppercase, options, strict=False))


def _in_order(pairs: Iterable[tuple[str, Any]]) -> tuple[str, ...]:
    texts: dict[str, str] = {}
    for key, value in pairs:
        letter = unicodedata.normalize("NFKC", key).strip().upper()
        if len(letter) != 1 or letter not in ascii_uppercase:
            raise Refused(f"not the letter of an option: {key[:20]!r}")
        texts[letter] = as_text(value, "option").strip()
    last = max((letter for letter, text in texts.items() if text), default="")
    letters = ascii_uppercase[: ascii_uppercase.index(last) + 1] if last else ""
    if empty := [letter for letter in letters if not texts.get(letter)]:
        raise Refused(f"an empty option before others: {empty[0]}")
    return _without_letters([texts[letter] for letter in letters])


def _without_letters(texts: list[str]) -> tuple[str, ...]:
    """Options without the letters that all of them repeat: "A. …" under A."""
    marks = [
        re.match(rf"[(（]?{letter}[)）.．、:：]\s*", text) for letter, text in zip(ascii_uppercase, texts, strict=False)
    ]
    ends = [mark.end() for mark in marks if mark]
    return tuple(text[end:] for text, end in zip(texts, ends, strict=True)) if len(ends) == len(texts) else tuple(texts)


def _cut(text: str) -> list[str]:
    """The options in "A … B …": one a line; or, where only one line begins with a letter, all in a row."""
    for before in (r"^\s*", r"(?:^|(?<=\s))"):
        spans, at = [], 0
        for letter in ascii_uppercase:
            found = re.compile(rf"{before}[(（]?{letter}{_AFTER_LETTER}", re.MULTILINE).search(text, at)
            if not found:
                break
            spans.append(found.span())
            at = found.end()
        if len(spans) > 1:
            ends = [start for start, _ in spans[1:]] + [len(text)]
            return [text[begin:end] for (_, begin), end in zip(spans, ends, strict=True)]
    raise Refused("options that do not begin with their letters")


def _letters(value: Any, choices: Sequence[str]) -> set[str]:
    text = as_text(value, "answer").strip()
    if text.isdecimal() or (isinstance(value, int | float) and text):
        raise Refused(f"the answer is a number, not a letter: {text[:20]}")
    said = unicodedata.normalize("NFKC", text)
    said = said.upper() if len(said) == 1 else said
    letters = {letter for letter in said if letter in ascii_uppercase} if _LETTERS.fullmatch(said) else set()
    if letters <= set(ascii_uppercase[: len(choices)]) and (letters or not text):
        return letters
    if text in choices:
        return {ascii_uppercase[choices.index(text)]}
    raise Refused(f"an answer without its option: {text[:20]}" if letters else f"not an answer: {text[:40]}")
