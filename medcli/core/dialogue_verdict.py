"""What a judge said, read: marks from 1 to 5 on four axes, or which of two consultations is better.

Two formats of marks are read: the JSON that our judge is asked for, loosely, and the older one of four lines
("Proactivity: 5", …) of DISC-MedLLM's published scores. Whatever is missing or out of range makes a verdict unreadable;
nothing is guessed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from medcli.core.dialogue_speech import without_thoughts
from medcli.core.loose_json import json_in

AXES = ("proactivity", "accuracy", "helpfulness", "language")
LOWEST, HIGHEST = 1.0, 5.0

Side = Literal["A", "B", "tie"]

_NAMES = {
    "proactivity": ("proactivity", "proactiveness", "proactive", "主动性", "主动"),
    "accuracy": ("accuracy", "accurate", "准确性", "准确度", "准确"),
    "helpfulness": ("helpfulness", "helpful", "有用性", "有帮助", "帮助性", "有用"),
    "language": ("linguistic quality", "language quality", "linguistics", "language", "语言质量", "语言"),
}
_AXIS_OF = {name: axis for axis, names in _NAMES.items() for name in names}
_MARK = r"([0-9](?:\.[0-9]+)?)\s*(?:/\s*5(?![0-9.])|分)?"
_ALONE = re.compile(rf"\s*{_MARK}\s*")
# A name, a colon, a number, and no sign that it goes on as a range ("4-5"), a longer number or a share of another
# scale.
_LINES = {
    axis: re.compile(
        rf"(?:{'|'.join(names)})\s*(?:[(（][^)）\n]*[)）])?\s*[*\"'”]*\s*[:：=]\s*[*\"'“]*\s*{_MARK}"
        rf"(?!\s*[-~～/至到.]?\s*[0-9])",
        re.IGNORECASE,
    )
    for axis, names in _NAMES.items()
}
_SCORE_KEYS = ("score", "rating", "分数", "评分", "得分", "打分")
_REASON_KEYS = ("reason", "explanation", "理由", "原因", "说明")
_WINNER_KEYS = ("winner", "better", "preferred", "verdict", "胜者", "更好", "结论")
_SIDES: dict[str, Side] = {
    "a": "A",
    "医生a": "A",
    "b": "B",
    "医生b": "B",
    "tie": "tie",
    "c": "tie",
    "draw": "tie",
    "equal": "tie",
    "平局": "tie",
    "平": "tie",
    "一样": "tie",
}
_BRACKETED = re.compile(r"\[\[\s*([ABC])\s*\]\]")  # MT-bench's format (Zheng et al. 2023), which judge models know
_KEY_NOISE = re.compile(r"[\s_\-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Marks by axis, 1 to 5, half points and what lies between included, and why, where the judge said so."""

    marks: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)


def verdict_of(said: object) -> Verdict | None:
    """The verdict in a judge's text, or in JSON that is read already; None when there is none to be trusted."""
    if isinstance(said, Mapping):
        return _from_table(said)
    if not isinstance(said, str):
        return None
    text = without_thoughts(said)
    tables = [table for table in _tables(text) if _axes_in(table)]
    complete = [table for table in tables if len(_axes_in(table)) == len(AXES)]
    if complete:
        return _from_table(complete[-1])  # what comes before is the format said back, or a draft
    return None if tables else _from_lines(text)


def side_of(said: str) -> Side | None:
    """Which side a judge of pairs prefers; None when it does not say."""
    text = without_thoughts(said)
    if named := [value for table in _tables(text) if (value := _of(table, _WINNER_KEYS))]:
        return _SIDES.get("".join(str(named[-1]).lower().split()))
    marked = _BRACKETED.findall(text)
    return _SIDES[marked[-1].lower()] if marked else None


def reason_of(said: str) -> str:
    """The reason in a verdict on a pair, "" when it gives none."""
    reasons = [str(reason) for table in _tables(without_thoughts(said)) if (reason := _of(table, _REASON_KEYS))]
    return reasons[-1] if reasons else ""


def _tables(text: str) -> Iterator[Mapping[str, Any]]:
    """Every object in a text, also inside others."""
    for found in re.finditer(r"\{", text):
        try:
            value = json_in(text[found.start() :])
        except (ValueError, RecursionError):  # brackets without end are what broken models write
            continue
        if isinstance(value, Mapping):
            yield value


def _axes_in(table: Mapping[str, Any]) -> dict[str, Any]:
    named = ((_AXIS_OF.get(_KEY_NOISE.sub(" ", key.strip().lower())), value) for key, value in table.items())
    return {axis: value for axis, value in named if axis}


def _from_table(table: Mapping[str, Any]) -> Verdict | None:
    found = _axes_in(table)
    marks: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for axis in AXES:
        value = found.get(axis)
        nested = value if isinstance(value, Mapping) else {}
        mark = _number(_of(nested, _SCORE_KEYS) if nested else value)
        if mark is None:
            return None
        marks[axis] = mark
        if reason := _of(nested, _REASON_KEYS):
            reasons[axis] = str(reason)
    return Verdict(marks=marks, reasons=reasons)


def _from_lines(text: str) -> Verdict | None:
    marks: dict[str, float] = {}
    for axis, pattern in _LINES.items():
        found = {_number(mark) for mark in pattern.findall(text)}
        mark = found.pop() if len(found) == 1 else None  # two different ones are no verdict
        if mark is None:
            return None
        marks[axis] = mark
    return Verdict(marks=marks)


def _number(value: object) -> float | None:
    """A mark from 1 to 5; None for all else, true and false among it."""
    if isinstance(value, str) and (found := _ALONE.fullmatch(value)):
        value = float(found[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if LOWEST <= value <= HIGHEST else None


def _of(table: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """The value under the first of `keys` that is there, None when none is."""
    return next((table[key] for key in keys if key in table), None)
