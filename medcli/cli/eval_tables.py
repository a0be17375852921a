"""How the outcome of exams is printed: figures with intervals, what could not be marked, categories and subjects."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from medcli.cli import console
from medcli.core import exam_file
from medcli.core.exam_file import Examination
from medcli.core.score import Score, wilson
from medcli.core.speaker import DISCLAIMER
from medcli.core.units import FEWEST, in_percent

_UNITS = {"perplexity": "tokens"}
_THINGS = {"choice": "questions", "general": "questions", "pairs": "pairs", "dialogue": "dialogues", "triage": "cases"}
_MOST_GROUPS = 40  # rows of a table that are still looked at
_NOTES = {
    "choice": "accuracy is in percent; less is better of brier, ece, aurc and risk",
    "generation": "shares are times 100; perplexity is per token, and less is better",
    "pairs": "accuracy and longer-… are in percent, margin is in units of the reward, log-loss in nat; less is "
    "better of log-loss, brier and ece; when longer-preferred is well above longer-right, length is preferred for its "
    "own sake",
    "triage": "in percent; less is better of over-triage and unsafe-advice; rules look for words: read the answers too",
    "dialogue": "each axis from 1 to 5",
}


def show(found: Sequence[Examination]) -> None:
    """Print the outcomes, those of one exam together."""
    for _, some in groupby(found, key=lambda one: one.exam):
        outcomes = list(some)
        if len(outcomes) == 1:
            _show_one(outcomes[0])
        else:
            _show_side_by_side(outcomes)
        note = _NOTES.get("choice" if outcomes[0].kind == "general" else outcomes[0].kind)
        if note:
            console.note(note)
        for one in outcomes:
            console.say(f"every answer: {one.file}")
    console.note(DISCLAIMER)


def as_json(found: Sequence[Examination]) -> Any:
    """The outcomes without their answers: an object for one, a list of them for several."""
    tables = [exam_file.summary(one) | _per_category(one) | {"file": str(one.file)} for one in found]
    return tables[0] if len(tables) == 1 else tables


def figure(kind: str, score: Score) -> tuple[str, str]:
    """A score's value and its interval as they are printed: shares times 100, as papers give them."""
    factor = 100 if in_percent(kind, score) else 1
    places = 2 if factor == 100 or abs(score.value) >= 1 else 3
    value, low, high = (f"{factor * number:.{places}f}" for number in (score.value, score.low, score.high))
    return value, f"{low} – {high}"


def _show_one(found: Examination) -> None:
    things = _THINGS.get(found.kind, "answers")
    rows = [
        (score.metric, *figure(found.kind, score), _count(score, things)) for score in (*found.scores, *rates(found))
    ]
    console.show_table(("metric", "value", "95 % interval", "n"), rows, title=f"{found.model}: {found.exam}")
    _show_groups(found)


def _show_side_by_side(found: Sequence[Examination]) -> None:
    names = dict.fromkeys(score.metric for one in found for score in (*one.scores, *rates(one)))
    columns = [{score.metric: score for score in (*one.scores, *rates(one))} for one in found]
    kind = found[0].kind
    rows = [(name, *(_with_interval(kind, column.get(name)) for column in columns)) for name in names]
    console.show_table(("metric", *(one.model for one in found)), rows, title=found[0].exam)


def _with_interval(kind: str, score: Score | None) -> str:
    return "{} ({})".format(*figure(kind, score)) if score else ""


def rates(found: Examination) -> list[Score]:
    """The shares of answers that could not be marked, of those kinds that there are."""
    every = len(found.marked)
    return [
        Score(metric=name, value=count / every, count=every, low=low, high=high)
        for name, count in found.outcomes.items()
        if name != "answered" and count
        for low, high in [wilson(count, every)]
    ]


def _show_groups(found: Examination) -> None:
    """The categories, and the subjects within them, as far as they have items enough to say something."""
    for depth, title in ((1, "category"), (2, "subject")):
        groups = [group for group in found.groups if len(group.names) == depth]
        every = [(group, score) for group in groups for score in group.scores if score.metric == found.primary]
        told = [(group, score) for group, score in every if score.count >= FEWEST]
        if len(every) > 1 and 0 < len(told) <= _MOST_GROUPS:
            rows = [("/".join(group.names), *figure(found.kind, score), score.count) for group, score in told]
            console.say("")
            console.show_table((title, found.primary, "95 % interval", "n"), rows)
        if more := len(every) - (len(told) if len(told) <= _MOST_GROUPS else 0):
            console.note(f"{more:,} more rows by {title} are in the file")


def _count(score: Score, things: str) -> str:
    return f"{score.count:,} {_UNITS.get(score.metric, things)}"


def _per_category(found: Examination) -> dict[str, Any]:
    """Accuracy by category and subcategory as CMB publishes it."""
    if found.kind != "choice":
        return {}
    categories: dict[str, float] = {}
    subcategories: dict[str, dict[str, float]] = {}
    for group in found.groups:
        value = next((score.value for score in group.scores if score.metric == found.primary), None)
        if value is None:
            continue
        if len(group.names) == 1:
            categories[group.names[0]] = value
        else:
            subcategories.setdefault(group.names[0], {})[group.names[1]] = value
    return {"accuracy_per_category": categories, "accuracy_per_subcategory": subcategories}
