"""What the figures of a run say over its steps: a loss, the share of pairs told apart, or a policy's reward and KL."""

from collections.abc import Sequence
from dataclasses import dataclass

Row = dict[str, float]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of `metrics.jsonl` and its name for people; that of a validation is called eval_…"""

    key: str
    label: str
    higher_is_better: bool = False

    @property
    def of_validation(self) -> str:
        """Its key in the rows of validations."""
        return f"eval_{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A figure by step."""

    label: str
    points: Points


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Curves of one figure, which share an axis."""

    figure: Figure
    curves: tuple[Curve, ...]


LOSS = Figure(key="loss", label="loss per token (nat)")
PAIR_LOSS = Figure(key="loss", label="loss per pair")
ACCURACY = Figure(key="accuracy", label="pairs right (share)", higher_is_better=True)
REWARD = Figure(key="reward", label="reward", higher_is_better=True)
DIVERGENCE = Figure(key="kl", label="KL to the reference (nat)")


def figures_of(rows: Sequence[Row]) -> tuple[Figure, ...]:
    """The figures that tell how a run went, the one it is judged by first.

    Whoever learns from pairs logs accuracy, and whoever learns from rewards of its own answers does not.
    """
    names = {name for row in rows for name in row}
    if {ACCURACY.key, ACCURACY.of_validation} & names:
        return PAIR_LOSS, ACCURACY
    if REWARD.key in names:
        return (REWARD, DIVERGENCE) if DIVERGENCE.key in names else (REWARD,)
    return (LOSS,)


def points(rows: Sequence[Row], key: str) -> Points:
    """(step, value) of a figure, where it was measured."""
    return tuple((row["step"], row[key]) for row in rows if key in row)


def last(rows: Sequence[Row], figure: Figure) -> float | None:
    """The last value in training."""
    values = points(rows, figure.key)
    return values[-1][1] if values else None


def best(rows: Sequence[Row], figure: Figure) -> float | None:
    """The best value of the validations."""
    values = [value for _, value in points(rows, figure.of_validation)]
    return (max if figure.higher_is_better else min)(values, default=None)


def charts_of(rows: Sequence[Row], name: str = "") -> list[Chart]:
    """A chart for each figure that was measured, with its course in training and in validation.

    `name` tells the run from others.
    """
    charts = []
    for figure in figures_of(rows):
        said = {figure.key: name or "training", figure.of_validation: f"{name}, validation" if name else "validation"}
        curves = [Curve(label=label, points=points(rows, key)) for key, label in said.items()]
        if measured := tuple(curve for curve in curves if curve.points):
            charts.append(Chart(figure=figure, curves=measured))
    return charts
