"""The report of a comparison: one HTML file that needs nothing else, with the same bytes for the same examinations."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from medcli import __version__
from medcli.core.comparison import Category, Compared, Comparison, Contrast, Pair
from medcli.core.speaker import DISCLAIMER
from medcli.steps import compare_words as words
from medcli.steps import page

TEMPLATE = "compare.html"
REPORT = "report.html"
MOST_PAIRS = 100  # losses, and wins, of an exam; 200 pairs of long answers make a page of about a megabyte
_MARGIN = 0.03  # of a chart, on either side
_TICKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A contrast in a chart: where its interval begins and ends, and where its value lies, in percent of the width."""

    name: str
    metric: str
    contrast: Contrast
    share: bool
    p: float
    low: float
    middle: float
    high: float
    tone: str
    starred: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Contrasts on one scale of gain: right of `zero` the other model is better; `ticks` are a place and a label."""

    rows: tuple[Row, ...]
    zero: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The answers of one outcome that the page shows, and how many it leaves out."""

    name: str
    tone: str
    pairs: Sequence[Pair]
    left_out: int


def write(found: Comparison, path: Path) -> None:
    """Write the report to `path`; raises StorageError."""
    page.write(path, TEMPLATE, _context(found), _FILTERS)


def forest(rows: Iterable[tuple[str, Contrast, float, bool]], share: bool) -> Forest:
    """The chart of (name, contrast, p, whether it is more than chance); all in one unit, shares or not."""
    found = list(rows)
    gains = [contrast.gain for _, contrast, _, _ in found]
    low, high = min(0.0, *(gain.low for gain in gains)), max(0.0, *(gain.high for gain in gains))
    edge = _MARGIN * (high - low) or 1.0
    start, width = low - edge, high - low + 2 * edge

    def place(value: float) -> float:
        return 100 * (value - start) / width

    return Forest(
        rows=tuple(
            Row(
                name=name,
                metric=words.metric_name(contrast),
                contrast=contrast,
                share=share,
                p=p,
                low=place(contrast.gain.low),
                middle=place(contrast.gain.value),
                high=place(contrast.gain.high),
                tone=_tone(contrast.gain.value, shown),
                starred=shown,
            )
            for name, contrast, p, shown in found
        ),
        zero=place(0),
        ticks=tuple((place(tick), _tick_label(tick, share)) for tick in _ticks(low, high)),
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round values from `low` to `high`, zero among them, at most _TICKS + 1."""
    span = high - low
    if not span:
        return [0.0]
    power = 10.0 ** floor(log10(span / _TICKS))
    step = next(size * power for size in (1, 2, 5, 10, 20) if span / (size * power) <= _TICKS)
    return [number * step for number in range(ceil(low / step), floor(high / step) + 1)]


def _tick_label(tick: float, share: bool) -> str:
    return re.sub(r"\.0+$", "", words.signed(tick, share))


def _tone(gain: float, shown: bool) -> str:
    """The colour of a gain, of a loss, or of what may be chance."""
    if not shown:
        return "chance"
    return "gain" if gain > 0 else "loss"


def _context(found: Comparison) -> dict[str, Any]:
    labels = words.labels(found)
    medical = [exam for exam in found.exams if not exam.general]
    general = [exam for exam in found.exams if exam.general]
    return {
        "found": found,
        "labels": labels,
        "summary": words.summary(found),
        "method": words.method(found),
        "medical": _exams(medical),
        "general": _exams(general),
        "lines": [words.general_line(exam) for exam in general],
        "sections": [_section(exam, labels) for exam in found.exams],
        "settings": _settings(found.exams, labels),
        "versions": _both(found.exams[0].one.versions, found.exams[0].other.versions, labels),
        "datasets": [(exam.exam, _both(exam.one.dataset, exam.other.dataset, labels)) for exam in found.exams],
        "disclaimer": DISCLAIMER,
        "med": __version__,
    }


def _exams(exams: Sequence[Compared]) -> list[tuple[Forest, list[Compared]]]:
    """A chart of the exams whose figures are shares, and one for each of the others, whose units differ."""
    shares = [exam for exam in exams if exam.primary.share]
    groups = [shares, *([exam] for exam in exams if exam not in shares)]
    return [
        (
            forest([(exam.exam, exam.primary, exam.p, exam.shown) for exam in group], group[0].primary.share),
            group,
        )
        for group in groups
        if group
    ]


def _section(exam: Compared, labels: tuple[str, str]) -> dict[str, Any]:
    share = exam.primary.share
    return {
        "exam": exam,
        "sentence": words.sentence(exam, *labels),
        "leaks": list(filter(None, map(words.leak_note, (exam.one, exam.other)))),
        "doubts": [*words.leak_doubts(exam.one), *words.leak_doubts(exam.other)],
        "left_out": words.left_out(exam),
        "preference": words.preference(exam.preferred, *labels) if exam.preferred else "",
        "further": exam.further,
        "outcomes": words.outcomes(exam),
        "categories": [_categories(groups, share) for groups in (exam.wide, exam.narrow) if groups],
        "shown": [
            _shown(f"{labels[1]} is worse", "loss", exam.losses),
            _shown(f"{labels[1]} is better", "gain", exam.wins),
        ],
    }


def _categories(groups: Sequence[Category], share: bool) -> Forest:
    return forest([(words.category_name(group), group.contrast, group.p, group.shown) for group in groups], share)


def _shown(name: str, tone: str, pairs: Sequence[Pair]) -> Shown:
    return Shown(name=name, tone=tone, pairs=pairs[:MOST_PAIRS], left_out=max(0, len(pairs) - MOST_PAIRS))


def _settings(exams: Sequence[Compared], labels: tuple[str, str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Of exams that were asked in the same way one table: (their names, (setting, value))."""
    tables: list[tuple[list[str], list[tuple[str, str]]]] = []
    for exam in exams:
        table = _both(exam.one.settings, exam.other.settings, labels)
        if same := next((names for names, other in tables if other == table), None):
            same.append(exam.exam)
        else:
            tables.append(([exam.exam], table))
    return [(", ".join(names), table) for names, table in tables]


def _both(one: Mapping[str, Any], other: Mapping[str, Any], labels: tuple[str, str]) -> list[tuple[str, str]]:
    """Each name with its value, or where the two differ with both."""
    rows = [(name, _typed(one.get(name)), _typed(other.get(name))) for name in dict.fromkeys([*one, *other])]
    return [
        (name, first if first == second else f"{labels[0]}: {first}; {labels[1]}: {second}")
        for name, first, second in rows
    ]


def _typed(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)


_FILTERS: dict[str, Callable[..., str]] = {
    "figure": words.figure,
    "signed": words.signed,
    "score_interval": words.score_interval,
    "difference_interval": words.difference_interval,
    "probability": words.probability,
    "metric_name": words.metric_name,
    "marks": words.marks,
}
