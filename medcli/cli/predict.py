"""`med predict [MODEL] --input FILE --output FILE`: answer every prompt of a file."""

import sys
from typing import IO, Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json, settle, takes
from medcli.core.model_ref import TINY
from medcli.core.speaker import Answering
from medcli.steps import predict as step
from medcli.steps.predict import PIPE, SECTION, Flags, Predicted, Settings

app = typer.Typer(rich_markup_mode=None, add_completion=False)
NAMED_HELP = "A run, a model folder, a hub id, med-tiny or a service (URL#NAME); without it, what med.toml names."
_SHOWN = 3  # refused prompts


@app.command()
@takes(Flags)
def predict(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=NAMED_HELP, show_default=False)] = None,
    *,
    as_json: Json = False,
    flags: dict[str, Any],
) -> None:
    """Answer every prompt of a file, or of a built data set, into a file.

    Answers stand in the order of the prompts. A command that was stopped, or killed, goes on where it was when it is
    given again, and the file becomes the one of a run that was never stopped.
    """
    run(settle(Settings, SECTION, {**flags, "model": model}).values, as_json=as_json)


def run(settings: Settings, *, as_json: bool, speaker: Answering | None = None) -> None:
    """Answer all prompts, and print what came of them; a `speaker` stands in for the model."""
    if not settings.model:
        console.note(f"no MODEL is named: asking {TINY}")
    with console.watching() as report:
        found = step.predict(settings, report, pipe=_pipe(settings), speaker=speaker)
    if as_json:
        console.show_json(_table(settings, found))
    else:
        _show(settings, found)


def _pipe(settings: Settings) -> IO[bytes] | None:
    return None if settings.input != PIPE or sys.stdin.isatty() else sys.stdin.buffer


def _show(settings: Settings, found: Predicted) -> None:
    outcome = found.outcome
    said = f"{settings.output}: {outcome.answered:,} of {outcome.rows:,} prompts answered"
    cut = f", {outcome.cut:,} of them cut at {settings.max_tokens:,} tokens" if outcome.cut else ""
    console.say(f"{said}{cut}")
    if outcome.refused:
        console.say(f"refused: {len(outcome.refused):,}")
    for id, problem in outcome.refused[:_SHOWN]:
        console.say(f"  {id}: {problem}")
    if found.tokens and found.seconds:
        console.note(f"{found.tokens:,} tokens in {found.seconds:.1f} s: {found.tokens / found.seconds:,.0f} a second")


def _table(settings: Settings, found: Predicted) -> dict[str, Any]:
    rate = found.tokens / found.seconds if found.tokens and found.seconds else None
    return {
        "output": str(settings.output),
        **found.outcome.as_table(),
        "asked_now": found.asked,
        "seconds": round(found.seconds, 3),
        "tokens_per_second": rate and round(rate, 1),
    }
