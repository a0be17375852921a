"""What every exam is made of: items to answer, who sits, answers with their marks, and how marks become scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.rewarder import RewardModel
from medcli.core.score import Score, score_of
from medcli.core.speaker import Reader, Speaker

# "answered" can be marked. "empty", "unparsed" (no choice can be read out of it) and "refused" (it declines to answer)
# count as wrong, and their shares are reported beside the score.
Outcome = Literal["answered", "empty", "unparsed", "refused"]
OUTCOMES: tuple[Outcome, ...] = ("answered", "empty", "unparsed", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What is asked, and the answer that is wanted ("" where an exam judges by other means).

    `groups` lead from the widest to the narrowest: ("医师考试", "规培结业"), a category and a subject. `asks` is what a
    training text must not hold, in its parts: the stem and the options, or one question.
    """

    id: str
    prompt: tuple[Message, ...]
    reference: str
    groups: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """An item's answer with its marks: the `values`, by metric, whose means over all items are the exam's scores.

    `detail` is kept for people and for figures that are no means: letters read, probabilities, a judge's reasons.
    """

    item: Item
    answer: str
    values: Mapping[str, float]
    outcome: Outcome = "answered"
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """Who sits an exam, and who helps.

    `reader` is None for a model that is not here, which can only be asked for text; `rewarder` is a reward model that
    is examined. Without a `patient` the scripted one answers; without a `judge` rules mark.
    """

    speaker: Speaker
    reader: Reader | None
    rewarder: RewardModel | None = None
    patient: Speaker | None = None
    judge: Speaker | None = None
    settings: EvalSettings
    report: Report


class Paper(Protocol):
    """An exam ready to be sat; `exams/NAME.py` gives one by `prepare(settings, dataset, split)`."""

    @property
    def items(self) -> Sequence[Item]:
        """All that will be asked."""
        ...

    def sit(self, sitting: Sitting) -> list[Marked]:
        """The answers of whoever sits, marked, in the order of the items."""
        ...


def means(marked: Iterable[Marked], seed: int) -> list[Score]:
    """The mean of each metric over the items that have it, with its 95 % interval, in the order metrics appear."""
    columns: dict[str, list[float]] = {}
    for one in marked:
        for metric, value in one.values.items():
            columns.setdefault(metric, []).append(value)
    return [score_of(metric, values, seed) for metric, values in columns.items()]


def by_group(marked: Sequence[Marked], depth: int) -> dict[tuple[str, ...], list[Marked]]:
    """The items of each group, the first `depth` names of it, in the order they come; those without are left out."""
    found: dict[tuple[str, ...], list[Marked]] = {}
    for one in marked:
        if len(one.item.groups) >= depth:
            found.setdefault(one.item.groups[:depth], []).append(one)
    return found
