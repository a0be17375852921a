"""Curves drawn with letters, for terminals and files alike."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

SYMBOLS = "*o+x#@%&"  # one for each curve; those that come later lie on top
HEIGHT = 12  # rows

Points = Sequence[tuple[float, float]]


def rows_of(curves: Sequence[Points], width: int) -> list[str]:
    """A picture of `curves` in `width` columns: axes, the range of both, and a symbol for each curve in its order.

    Where several points fall into a column their mean is drawn, so that noise does not hide the course.
    """
    across = [x for points in curves for x, _ in points]
    up = [y for points in curves for _, y in points]
    lowest, highest = min(up), max(up)
    labels = {0: f"{highest:.4g}", HEIGHT // 2: f"{(highest + lowest) / 2:.4g}", HEIGHT - 1: f"{lowest:.4g}"}
    margin = max(map(len, labels.values()))
    room = max(8, width - margin - 2)
    cells = [[" "] * room for _ in range(HEIGHT)]
    for index, points in enumerate(curves):
        for column, value in _columns(points, min(across), max(across), room):
            share = (highest - value) / (highest - lowest) if highest > lowest else 0.5
            cells[round(share * (HEIGHT - 1))][column] = SYMBOLS[index % len(SYMBOLS)]
    drawn = [
        f"{labels.get(row, ''):>{margin}} {'┤' if row in labels else '│'}{''.join(line)}".rstrip()
        for row, line in enumerate(cells)
    ]
    first, last = f"{min(across):g}", f"{max(across):g}"
    return [
        *drawn,
        f"{' ' * margin} └{'─' * room}",
        f"{' ' * (margin + 2)}{first}{'step':^{max(4, room - len(first) - len(last))}}{last}",
    ]


def _columns(points: Points, first: float, last: float, width: int) -> list[tuple[int, float]]:
    """The curve's value in each column between its own first and last one, with straight lines over the gaps."""
    found: dict[int, list[float]] = {}
    for x, y in sorted(points):
        column = round((x - first) / (last - first) * (width - 1)) if last > first else 0
        found.setdefault(column, []).append(y)
    known = [(column, fmean(values)) for column, values in found.items()]
    line = [
        (column, one + (other - one) * (column - start) / (end - start))
        for (start, one), (end, other) in pairwise(known)
        for column in range(start, end)
    ]
    return [*line, known[-1]]
