"""Several answers to a prompt, in order, with ranks or with scores: pairs of a better and a worse one.

A list gives each answer against the next worse one: n answers make n - 1 pairs, not n(n - 1)/2 that repeat each other.
UltraFeedback gives one pair per prompt, as Zephyr and all who followed made it: the best answer against one of the
worse, drawn by the prompt's hash (https://arxiv.org/abs/2310.16944, section 4.2).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import isfinite
from statistics import fmean
from typing import Any

from medcli.core.fingerprint import fingerprint
from medcli.core.peek import Peek
from medcli.core.raw import Source
from medcli.core.raw_rows import ReadOptions, Refused, as_text, joined, needed_text, rows_of, text_of
from medcli.core.record import Message, Preference, Record, Row

HELP = "ranked answers: output [best, …, worst], responses with scores or rank, UltraFeedback's completions"
_PROMPTS = ("instruction", "prompt", "question", "query")
_ANSWERS = ("responses", "answers")
_SCORES = ("scores", "score")  # more is better
_RANKS = ("rank", "ranks")  # 1 is the best
_ALREADY_RANKED = "output"
Scored = tuple[float, str]


def fits(peek: Peek) -> int:
    """Whether answers come with scores, or in lists of more than the two that alpaca reads."""
    columns = set(peek.columns)
    if not columns & set(_PROMPTS):
        return 0
    completions = peek.first("completions")
    if isinstance(completions, list) and isinstance(completions[0], Mapping) and "response" in completions[0]:
        return 88
    if columns & set(_ANSWERS) and columns & {*_SCORES, *_RANKS}:
        return 85
    lists = [row.get(_ALREADY_RANKED) for row in peek.rows]
    return 70 if any(isinstance(answers, list) and len(answers) > 2 for answers in lists) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """The preferences of every row; answers of equal score make none."""
    return rows_of(source, lambda row, id: _records(row, id, options.source))


def _records(row: Mapping[str, Any], id: str, source: str) -> list[Record]:
    column = next((name for name in _PROMPTS if name in row), "")
    if not column:
        raise Refused(f"missing column: '{_PROMPTS[0]}'")
    asked = joined(needed_text(row, column), text_of(row, "input"))
    if "completions" in row:
        pairs = _best_and_one_worse(_completions(row["completions"]), asked)
    else:
        pairs = _neighbours(_scored(row))
    if not pairs:
        raise Refused("no answer is better than another")
    prompt = (Message(role="user", content=asked),)
    return [
        Preference(id=f"{id}.{n}" if n > 1 else id, prompt=prompt, chosen=better, rejected=worse, source=source)
        for n, (better, worse) in enumerate(pairs, 1)
    ]


def _neighbours(answers: Sequence[Scored]) -> list[tuple[str, str]]:
    ranked = sorted(answers, key=lambda answer: -answer[0])
    return [(better[1], worse[1]) for better, worse in pairwise(ranked) if better[0] > worse[0]]


def _best_and_one_worse(answers: Sequence[Scored], prompt: str) -> list[tuple[str, str]]:
    best = max(answers, key=lambda answer: answer[0])
    worse = [text for score, text in answers if score < best[0]]
    return [(best[1], worse[fingerprint(prompt) % len(worse)])] if worse else []


def _scored(row: Mapping[str, Any]) -> list[Scored]:
    answers = next((name for name in _ANSWERS if name in row), _ALREADY_RANKED)
    texts = [as_text(text, answers) for text in _list(row, answers)]
    if answers == _ALREADY_RANKED:
        return [(-float(place), text) for place, text in enumerate(texts)]
    marks = next((name for name in (*_SCORES, *_RANKS) if name in row), _SCORES[0])
    scores = [_score(score) for score in _list(row, marks)]
    if len(scores) != len(texts):
        raise Refused(f"answers and scores do not match: {len(texts)} and {len(scores)}")
    return [(-score if marks in _RANKS else score, text) for score, text in zip(scores, texts, strict=True)]


def _completions(completions: Any) -> list[Scored]:
    if not isinstance(completions, list) or not completions or not all(isinstance(c, Mapping) for c in completions):
        raise Refused("no list of completions")
    return [(_rating(completion), needed_text(completion, "response")) for completion in completions]


def _rating(completion: Mapping[str, Any]) -> float:
    """The mean rating of all aspects; `overall_score` is 10 where it should be 1 in hundreds of the first rows."""
    aspects = completion.get("annotations")
    rated = (
        [aspect for aspect in aspects.values() if isinstance(aspect, Mapping)] if isinstance(aspects, Mapping) else []
    )
    ratings = [rating for aspect in rated if (rating := _number(aspect.get("Rating"))) is not None]
    return fmean(ratings) if ratings else _score(completion.get("overall_score"))


def _score(value: Any) -> float:
    score = _number(value)
    if score is None:
        raise Refused("not a score" if value is None else f"not a score: {as_text(value, 'score')[:40]}")
    return score


def _number(value: Any) -> float | None:
    """A finite number, also one in a text; None for "N/A" and the like."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _list(row: Mapping[str, Any], column: str) -> list[Any]:
    if not isinstance(row.get(column), list):
        raise Refused(f"not a list: '{column}'")
    return list(row[column])
