"""Compare two models by the exams both sat, item by item: what is gained, what is lost, and what chance would do."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from medcli.core.comparison import EXACT, SIGN_FLIP, Category, Compared, Comparison, Contrast, Pair
from medcli.core.errors import DataError
from medcli.core.exam import Marked
from medcli.core.exam_file import Examination
from medcli.core.paired import Preferred, are_shares, difference, holm, p_value, unpaired
from medcli.core.score import Score, interval, score_of
from medcli.core.units import FEWEST, IN_MARKS, in_percent, lower_is_better
from medcli.steps.compare_check import check_alike, check_exams

_SAME = 1e-9  # a mean of the same values in another order differs by less
_MOST_NARROW = 40  # groups of two names; more are not read, and Holm's correction would leave nothing of them

Both = Sequence[tuple[Marked, Marked]]
Values = tuple[list[float], list[float]]


def compare(
    one: Sequence[Examination],
    other: Sequence[Examination],
    seed: int,
    general: Collection[str] = ("general",),
    preferences: Mapping[str, Preferred] | None = None,
) -> Comparison:
    """Compare the `other` model with the `one` by the exams both sat, given in the same order.

    Exams named in `general` show what was forgotten; `preferences` are a judge's, by the exam's name. Raises DataError
    where the two were not examined alike, or where an exam has no item with its primary metric.
    """
    check_exams(one, other)
    judged = preferences or {}
    found = [
        _compared(first, second, seed, first.exam in general, judged.get(first.exam))
        for first, second in zip(one, other, strict=True)
    ]
    return Comparison(one=one[0].model, other=other[0].model, seed=seed, exams=tuple(found))


def to_json(found: Comparison) -> dict[str, Any]:
    """The comparison without the answers, which stand in the files of the examinations."""
    return {
        "one": found.one,
        "other": found.other,
        "seed": found.seed,
        "exams": [_exam_row(exam) for exam in found.exams],
    }


def _compared(one: Examination, other: Examination, seed: int, general: bool, preferred: Preferred | None) -> Compared:
    check_alike(one, other)
    metric = one.primary
    seconds = {mark.item.id: mark for mark in other.marked}
    both = [(first, seconds[first.item.id]) for first in one.marked]
    with_it = _with(metric, both)
    if not with_it:
        raise DataError(
            f"{one.exam}: no item has the metric {metric} in both models, so there is nothing to compare item by item",
            hint="look at both evaluations instead: med eval MODEL",
        )
    measure = _Measure(metric=metric, seed=seed, kind=one.kind)
    return Compared(
        one=one,
        other=other,
        general=general,
        primary=measure.contrast(with_it, (one, other)),
        test=EXACT if measure.is_binary(_values(with_it, metric)) else SIGN_FLIP,
        p=measure.p(with_it),
        left_out=sum((metric in first.values) != (metric in second.values) for first, second in both),
        further=tuple(_further(one, other, both, seed)),
        wide=_categories(with_it, measure, lambda names: names[:1]),
        narrow=_narrow(with_it, measure),
        pairs=tuple(_pair(first, second, metric) for first, second in with_it),
        preferred=preferred,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """How a metric of an exam of some kind is compared."""

    metric: str
    seed: int
    kind: str

    @property
    def marks(self) -> bool:
        """Whether values are marks from 1 to 5, of which all 1 are no share."""
        return self.kind == IN_MARKS

    def contrast(self, both: Both, sides: Sequence[Examination | None] = (None, None)) -> Contrast:
        """The metric over these items, not empty; a side's own figure is taken where it is that of these items."""
        values = _values(both, self.metric)
        one, other = (self._score(column, side) for column, side in zip(values, sides, strict=True))
        return Contrast(
            metric=self.metric,
            one=one,
            other=other,
            difference=difference(*values, self.seed, shares=self.is_binary(values)),
            share=in_percent(self.kind, one, other),
        )

    def p(self, both: Both) -> float:
        """How often chance would do as much."""
        values = _values(both, self.metric)
        return p_value(*values, self.seed, shares=self.is_binary(values))

    def is_binary(self, values: Values) -> bool:
        """Whether each value says right or wrong."""
        return not self.marks and are_shares(*values)

    def _score(self, values: list[float], side: Examination | None) -> Score:
        known = next((score for score in side.scores if score.metric == self.metric), None) if side else None
        if known and known.count == len(values) and abs(known.value - fmean(values)) < _SAME:
            return known
        if not self.marks:
            return score_of(self.metric, values, self.seed)
        low, high = interval(values, self.seed)
        return Score(metric=self.metric, value=fmean(values), count=len(values), low=low, high=high)


def _with(metric: str, both: Both) -> Both:
    return [pair for pair in both if all(metric in mark.values for mark in pair)]


def _values(both: Both, metric: str) -> Values:
    return [first.values[metric] for first, _ in both], [second.values[metric] for _, second in both]


def _pair(first: Marked, second: Marked, metric: str) -> Pair:
    more = second.values[metric] - first.values[metric]
    return Pair(item=first.item, one=first, other=second, gain=-more if lower_is_better(metric) else more)


def _further(one: Examination, other: Examination, both: Both, seed: int) -> list[Contrast]:
    """Every other metric that both have, in the order of the first."""
    found = []
    seconds = {score.metric: score for score in other.scores}
    for first in one.scores:
        if first.metric == one.primary or first.metric not in seconds:
            continue
        if with_it := _with(first.metric, both):
            found.append(_Measure(metric=first.metric, seed=seed, kind=one.kind).contrast(with_it, (one, other)))
        else:
            found.append(_apart(first, seconds[first.metric], one.kind))
    return found


def _apart(one: Score, other: Score, kind: str) -> Contrast:
    share = in_percent(kind, one, other)
    gap = unpaired(one, other)
    return Contrast(metric=one.metric, one=one, other=other, difference=gap, share=share, paired=False)


def _narrow(both: Both, measure: _Measure) -> tuple[Category, ...]:
    """The groups of two names, unless they are too many to be read, or no more than the wide ones."""
    two = {first.item.groups[:2] for first, _ in both if len(first.item.groups) > 1}
    if len(two) > _MOST_NARROW or len(two) <= len({names[0] for names in two}):
        return ()
    return _categories(both, measure, lambda names: names[:2] if len(names) > 1 else ())


def _categories(
    both: Both, measure: _Measure, names_of: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> tuple[Category, ...]:
    """Each group's difference, what was lost first; of groups of FEWEST items, and not of the exam as a whole."""
    every: dict[tuple[str, ...], list[tuple[Marked, Marked]]] = {}
    for pair in both:
        if names := names_of(pair[0].item.groups):
            every.setdefault(names, []).append(pair)
    groups = {names: pairs for names, pairs in every.items() if len(pairs) >= FEWEST}
    if len(every) < 2:
        return ()
    ps = [measure.p(pairs) for pairs in groups.values()]
    found = [
        Category(names=names, contrast=measure.contrast(pairs), p=p, adjusted=adjusted)
        for (names, pairs), p, adjusted in zip(groups.items(), ps, holm(ps), strict=True)
    ]
    return tuple(sorted(found, key=lambda group: group.contrast.gain.value))


def _exam_row(found: Compared) -> dict[str, Any]:
    return {
        "exam": found.exam,
        "general": found.general,
        "primary": _contrast_row(found.primary),
        "test": found.test,
        "p": found.p,
        "shown": found.shown,
        "wins": len(found.wins),
        "ties": found.ties,
        "losses": len(found.losses),
        "left_out": found.left_out,
        "further": [_contrast_row(contrast) for contrast in found.further],
        "categories": [
            {"names": list(group.names), "p": group.p, "adjusted": group.adjusted, "shown": group.shown}
            | _contrast_row(group.contrast)
            for group in (*found.wide, *found.narrow)
        ],
        "preferred": asdict(found.preferred) | {"p": found.preferred.p} if found.preferred else None,
        "outcomes": {"one": found.one.outcomes, "other": found.other.outcomes},
        "leak": {"one": dict(found.one.leak), "other": dict(found.other.leak)},
        "won": [pair.item.id for pair in found.wins],
        "lost": [pair.item.id for pair in found.losses],
    }


def _contrast_row(found: Contrast) -> dict[str, Any]:
    return {
        "metric": found.metric,
        "share": found.share,
        "lower_is_better": found.towards < 0,
        "one": asdict(found.one),
        "other": asdict(found.other),
        "difference": asdict(found.difference),
        "paired": found.paired,
    }
