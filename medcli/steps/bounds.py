"""Figures that must be reached, for scripts: `--min accuracy=0.6`, `--max cmb-test:unsafe-advice=0.05`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medcli.core.errors import BoundMissed, UsageError, nearest
from medcli.core.exam_file import Examination
from medcli.core.exam_settings import EvalSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A metric's least or greatest allowed value, of one exam, or of every exam that has the metric."""

    exam: str
    metric: str
    value: float
    is_least: bool

    @property
    def said(self) -> str:
        """The bound as it was given."""
        head = f"{self.exam}:" if self.exam else ""
        return f"--{'min' if self.is_least else 'max'} {head}{self.metric}={self.value:g}"


def bounds_of(settings: EvalSettings) -> list[Bound]:
    """The bounds that were asked for; raises UsageError for one that cannot be read."""
    return [*map(_least, settings.min), *map(_greatest, settings.max)]


def check(found: Sequence[Examination], bounds: Iterable[Bound]) -> None:
    """Raise BoundMissed for figures on the wrong side, UsageError for a metric that no exam has."""
    missed = []
    for bound in bounds:
        held = [one for one in found if bound.exam in ("", one.exam, one.kind)]
        scores = [(one, score) for one in held for score in one.scores if score.metric == bound.metric]
        if not scores:
            names = sorted({score.metric for one in held or found for score in one.scores})
            close = nearest(bound.metric, names)
            said = f"did you mean '{close}'?" if close else f"there are {', '.join(names)}"
            raise UsageError(f"{bound.said}: no exam that was sat has this figure", hint=said)
        for one, score in scores:
            if score.value < bound.value if bound.is_least else score.value > bound.value:
                missed.append(f"{one.model}, {one.exam}: {score.metric} is {score.value:.4g}, and {bound.said}")
    if missed:
        raise BoundMissed("\n  ".join(missed), hint="all answers are kept, see above")


def _least(text: str) -> Bound:
    return _bound(text, is_least=True)


def _greatest(text: str) -> Bound:
    return _bound(text, is_least=False)


def _bound(text: str, *, is_least: bool) -> Bound:
    flag = "--min" if is_least else "--max"
    name, sign, number = text.partition("=")
    exam, _, metric = name.strip().rpartition(":")
    try:
        value = float(number)
    except ValueError as error:
        raise UsageError(f"{flag}: '{text}' is no bound", hint=f"write {flag} accuracy=0.6") from error
    if not sign or not metric:
        raise UsageError(f"{flag}: '{text}' is no bound", hint=f"write {flag} accuracy=0.6")
    return Bound(exam=exam, metric=metric, value=value, is_least=is_least)
