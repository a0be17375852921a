"""The only file that knows rich: tables, progress, error boxes, JSON.

Results go to stdout, everything else to stderr. Where stderr is no terminal there is no spinner, one line a stage.
What `med` says is English until it is shown here; then it is in the language of who reads it. Data stay as they are.
"""

import json as json_module
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from medcli.cli import curve
from medcli.cli.policy_table import PolicyTable
from medcli.core import settings
from medcli.core.catalogue import translated
from medcli.core.report import Report, Silent

if TYPE_CHECKING:
    from medcli.steps.run_curves import Chart

_quiet = False
_WORTH_SAYING = 2.0  # seconds
_WIDEST_BARS = 100  # columns
_OF_BAR = 30  # columns of a progress bar, its sign, its time and the spaces between
_CURVE_STYLES = ("blue", "red", "green", "magenta", "cyan", "yellow")
# What a training line shows, in order: key in metrics.jsonl -> how it is printed.
_FIGURES = {
    "loss": "loss {:.4f}",
    "accuracy": "right {:.0%}",
    "margin": "margin {:.2f}",
    "eval_loss": "valid {:.4f}",
    "eval_accuracy": "valid right {:.1%}",
    "learning_rate": "lr {:.2e}",
    "tokens_per_second": "{:,.0f} tok/s",
    "memory_gib": "{:.1f} GiB",
}


def be_quiet() -> None:
    """From now on only results and errors are printed."""
    global _quiet
    _quiet = True


def _out() -> Console:
    return Console(soft_wrap=True, highlight=False)


def _err() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)


def words(text: str) -> str:
    """A sentence or name of ours in the reader's language, for where it is put together with other things."""
    return translated(text, settings.language())


def width_of(text: str) -> int:
    """The columns that a text takes: a Chinese character takes two."""
    return cell_len(text)


def say(text: str, style: str = "") -> None:
    """Print a line of the result."""
    show_text(words(text), style)


def show_text(text: str, style: str = "") -> None:
    """Print a text that is not ours, such as a record, as it is."""
    _out().print(Text(text, style=style))


def stream(text: str) -> None:
    """Print a piece of an answer as it comes, without a line end."""
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str, style: str = "dim") -> None:
    """Print a line for the person who watches, not for the result."""
    note_text(words(text), style)


def note_text(text: str, style: str = "dim") -> None:
    """Print a text that is not ours for the person who watches, as it is."""
    if not _quiet:
        console = _err()
        # On a terminal lines break between words; in a file, and where Chinese may break anywhere, nowhere of our own.
        has_words = cell_len(text) == len(text)
        console.print(Text(text, style=style), soft_wrap=not (console.is_terminal and has_words))


def show_error(message: str, hint: str = "") -> None:
    """Print what went wrong, and under it how to mend it."""
    console = _err()
    console.print(f"[bold red]✗[/] {escape(words(message))}")
    for line in filter(None, words(hint).splitlines()):
        console.print(f"  [dim]{escape(line)}[/]")


def show_rows(json: bool, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Print rows as a table, or as a JSON array of objects."""
    if json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show_table(columns, [tuple("" if cell is None else cell for cell in row) for row in rows])


def show_json(value: Any) -> None:
    """Print a result as JSON."""
    sys.stdout.write(json_module.dumps(value, ensure_ascii=False, indent=2) + "\n")


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Print a table; numbers stand to the right."""
    if title:  # a table's own title is folded at the table's width
        say(title, style="italic")
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console(highlight=False).print(table)


def show_side_by_side(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print texts in columns that share the width alike, wrapped by cells."""
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    for heading in headings:
        table.add_column(Text(heading), ratio=1, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def show_bars(title: str, rows: Sequence[tuple[str, int]]) -> None:
    """Print a count beside each label, and a bar as long as its share of the largest."""
    labels = max((cell_len(label) for label, _ in rows), default=0)
    counts = max((len(_cell(count)) for _, count in rows), default=0)
    room = max(8, min(Console().width, _WIDEST_BARS) - labels - counts - 5)
    largest = max((count for _, count in rows), default=0) or 1
    say(title, style="bold")
    for label, count in rows:
        whole, eighths = divmod(-(-count * room * 8 // largest), 8)  # rounded up: one record is still to be seen
        bar = "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()
        say(f"  {' ' * (labels - cell_len(label))}{label} {_cell(count):>{counts}} {bar}".rstrip())


def show_charts(charts: "Sequence[Chart]") -> None:
    """Draw each chart over the steps, every curve with a symbol and, on a terminal, a colour of its own."""
    for chart in charts:
        say("")
        say(chart.figure.label, style="bold")
        _show_curves([(one.label, one.points) for one in chart.curves])
    if not charts:
        say("nothing is measured yet")


def _show_curves(curves: Sequence[tuple[str, curve.Points]]) -> None:
    styles = {symbol: _CURVE_STYLES[index % len(_CURVE_STYLES)] for index, symbol in enumerate(curve.SYMBOLS)}
    for row in curve.rows_of([points for _, points in curves], min(Console().width, _WIDEST_BARS)):
        text = Text(row)
        for symbol, style in styles.items():
            text.highlight_words([symbol], style)
        _out().print(text)
    for index, (label, _) in enumerate(curves):
        symbol = curve.SYMBOLS[index % len(curve.SYMBOLS)]
        _out().print(Text.assemble("  ", (symbol, styles[symbol]), f" {label}"))


def show_changes(lines: Sequence[str]) -> None:
    """Print a diff on stderr, what comes in green, what goes in red."""
    styles = {"+": "green", "-": "red", "@": "dim"}
    for line in lines:
        _err().print(Text(line, style=styles.get(line[:1], "")))


def show_segments(pieces: Sequence[tuple[str, bool]], *, result: bool = False) -> None:
    """Print rendered text, what is trained in green, the rest dim; on stderr unless it is the result."""
    if _quiet and not result:
        return
    console = _out() if result else _err()
    text = Text()
    for piece, trained in pieces:
        if console.is_terminal:
            text.append(piece, style="bold green" if trained else "dim")
        else:
            text.append(f"⟦{piece}⟧" if trained else piece)
    console.print(text)


@contextmanager
def watching() -> Iterator[Report]:
    """A report drawn on stderr: live bars on a terminal, plain lines elsewhere, nothing with --quiet."""
    if _quiet:
        yield Silent()
    elif sys.stderr.isatty() and not _err().is_dumb_terminal:  # a dumb one cannot draw a line anew
        bars = _Bars()
        with bars.progress:
            yield bars
            bars.finish()
    else:
        lines = _Lines()
        yield lines
        lines.finish()


class _Bars:
    """A report as one progress bar a stage."""

    def __init__(self) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[count]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True, highlight=False),
            transient=False,
        )
        self._task: Any = None
        self._unit = ""
        self._measured: dict[str, float] = {}
        self._table = PolicyTable()

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.finish()
        self._unit, self._measured = words(unit), {}
        self._task = self.progress.add_task(words(name), total=total, count="", figures="")

    def advance(self, done: int) -> None:
        total = self.progress.tasks[-1].total
        shown = f"{done:,}/{total:,.0f} {self._unit}" if total else f"{done:,} {self._unit}"
        self.progress.update(self._task, completed=done, count=shown)

    def note(self, text: str) -> None:
        self.progress.console.print(Text(words(text), style="dim"))

    def measure(self, step: int, values: Mapping[str, float]) -> None:
        self._measured |= values
        for line in self._table.lines(step, values):
            self.progress.console.print(Text(line))
        task = self.progress.tasks[-1]
        taken = cell_len(f"{task.description}{task.fields['count']}") + _OF_BAR
        self.progress.update(self._task, figures=_figures(self._measured, self.progress.console.width - taken))

    def finish(self) -> None:
        if self._task is not None:
            task = self.progress.tasks[-1]
            done = task.completed or 1
            total = min(task.total, done) if task.total else done
            self.progress.update(self._task, total=total, completed=total)
            self.progress.stop_task(self._task)


class _Lines:
    """A report as plain lines, at most twenty a stage."""

    def __init__(self) -> None:
        self._name, self._unit, self._total = "", "", 0
        self._started = time.monotonic()
        self._shown = self._advanced = 0
        self._table = PolicyTable()

    def _say(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.finish()
        self._name, self._unit, self._total = words(name), words(unit), total or 0
        self._started, self._shown, self._advanced = time.monotonic(), 0, 0
        self._say(f"{self._name} …" if not total else f"{self._name}: {total:,} {self._unit}".rstrip())

    def advance(self, done: int) -> None:
        taken, tenth = time.monotonic() - self._started, 10 * done // max(self._total, 1)
        if self._shown or taken < _WORTH_SAYING or not self._advanced < tenth < 10:  # figures say how far it is, too
            return
        self._advanced = tenth
        left = taken / done * (self._total - done)
        self._say(f"  {done:,}/{self._total:,} {self._unit}".rstrip() + words(f"  {left:.0f} s left"))

    def note(self, text: str) -> None:
        self._say(words(text))

    def measure(self, step: int, values: Mapping[str, float]) -> None:
        if lines := self._table.lines(step, values):
            self._say("\n".join(lines))
            return
        stride = max(1, self._total // 20)
        if step // stride > self._shown or step == self._total or step == 1:
            self._shown = step // stride
            left = (time.monotonic() - self._started) / max(step, 1) * max(self._total - step, 0)
            self._say(f"  {step:>6}/{self._total}  {_figures(values)}" + words(f"  {left:.0f} s left"))

    def finish(self) -> None:
        if self._name and (took := time.monotonic() - self._started) > _WORTH_SAYING:
            self._say(words(f"{self._name}: done in {took:.1f} s"))
        self._name = ""


def _figures(values: Mapping[str, float], room: int = 1000) -> str:
    """The figures, the first ones first, as many as there is room for."""
    parts = [form.format(values[key]) for key, form in _FIGURES.items() if key in values]
    while parts and len("  ".join(parts)) > room:
        parts.pop()
    return "  ".join(parts)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return words("yes" if value else "no")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
