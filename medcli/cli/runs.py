"""`med runs …`: list, look at, compare and remove training runs."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcli.cli.options import Json
from medcli.core.errors import UsageError

if TYPE_CHECKING:
    from medcli.steps.runs import Summary

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder.")]
Runs = Annotated[list[str], typer.Argument(metavar="RUN…", help="Names or folders of runs.")]
Output = Annotated[Path | None, typer.Option("--output", help="Where to draw the curves.  [default: runs/compare.png]")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.callback(help="List, look at, compare and remove training runs.")
def _group() -> None:
    return None


@app.command("list", help="All runs: on what, how far, how good.")
def list_runs(*, as_json: Json = False) -> None:
    from medcli.cli import console
    from medcli.steps import runs

    found = runs.summaries()
    if not found and not as_json:
        console.note("no runs yet; `med train lora --dataset …` makes one")
        return
    if as_json:
        console.show_json([asdict(summary) for summary in found])
        return
    columns = ("name", "method", "base", "data", "status", "steps", "loss", "valid", "started")
    console.show_rows(False, columns, [_row(summary) for summary in found])


def _row(found: "Summary") -> tuple[Any, ...]:
    """A run in as few columns as a narrow terminal has; --json tells all."""
    base = " + ".join(part.rpartition("/")[2] for part in found.base.split(" + "))
    steps = f"{found.steps:,}/{found.planned:,}"
    started = found.started[5:16].replace("T", " ")
    figures = (_figure(found.loss, found.reward), _figure(found.valid_loss, found.valid_reward, found.valid_accuracy))
    return (found.name, found.method, base, found.data, found.status, steps, *figures, started)


def _figure(loss: float | None, reward: float | None, accuracy: float | None = None) -> str | None:
    """What a run is judged by: its loss, with the share of pairs that are right, or its reward."""
    if reward is not None:
        return f"reward {reward:.3f}"
    right = f" ({accuracy:.0%})" if accuracy is not None else ""
    return f"{loss:.3f}{right}" if loss is not None else None


@app.command(help="One run: settings and where each is from, data, result, loss curve.")
def show(name: Run, *, as_json: Json = False) -> None:
    from medcli.cli import console
    from medcli.steps import runs

    run = runs.known(name)
    summary, charts, results = runs.summary(run), runs.charts_of(run), runs.results_of(run)
    if as_json:
        settings = {flag: {"value": value, "origin": origin} for flag, value, origin in runs.settings_of(run)}
        data = [dict(zip(("name", "records", "sha256", "path"), row, strict=True)) for row in runs.data_of(run)]
        curves = [asdict(curve) | {"figure": chart.figure.key} for chart in charts for curve in chart.curves]
        said = {"settings": settings, "data": data, "results": results, "curves": curves}
        console.show_json({**asdict(summary), **said})
        return
    console.say(f"{summary.name}: {summary.method} of {summary.base}, started {summary.started}", style="bold")
    console.show_table(("setting", "value", "from"), runs.settings_of(run))
    console.say("")
    console.show_table(("data", "records", "sha256", "folder"), runs.data_of(run))
    console.say("")
    console.show_table(("result", ""), [(key, value) for key, value in results.items() if value is not None])
    console.show_charts(charts)


@app.command(help="Runs side by side: the settings that differ, results, and curves in one picture.")
def compare(names: Runs, *, output: Output = None, as_json: Json = False) -> None:
    from medcli.cli import console
    from medcli.steps import runs

    folders = [runs.known(name) for name in names]
    found = runs.compare(folders)
    path = runs.draw(folders, output) if found.charts else None
    if as_json:
        tables = {
            kind: {row[0]: dict(zip(found.names, row[1:], strict=True)) for row in rows}
            for kind, rows in (("settings", found.settings), ("results", found.results))
        }
        console.show_json({**tables, "image": str(path) if path else None})
        return
    for title, rows in (("setting", found.settings), ("result", found.results)):
        console.show_rows(False, (title, *found.names), rows)
        console.say("")
    if not found.settings:
        console.say("no setting differs, nor the data")
    console.show_charts(found.charts)
    if path:
        console.say(f"drawn to {path}")


@app.command(help="Delete runs, unless a process or another run needs them.")
def rm(names: Runs, *, yes: Yes = False) -> None:
    from medcli.cli import console
    from medcli.steps import runs

    going = runs.removable(names)
    said = ", ".join(f"{run.name} ({runs.bytes_of(run.path) / 2**20:.1f} MiB)" for run in going)
    if not yes and not sys.stdin.isatty():
        raise UsageError(f"nobody is here to ask whether to delete {said}", hint="add --yes")
    if not yes and not typer.confirm(console.words(f"Delete {said} for ever?"), err=True):
        console.note("nothing is deleted")
        return
    freed = sum(runs.remove(run) for run in going)
    console.say(f"deleted {', '.join(run.name for run in going)}; {freed / 2**20:.1f} MiB are free")
