"""A bare `med`: where this project stands, and the next command; in a fresh folder, how to begin."""

import sys
from functools import partial
from typing import TYPE_CHECKING

from medcli.core.catalogue import translated
from medcli.core.settings import language

if TYPE_CHECKING:
    from medcli.steps.status import Run


def show() -> None:
    """Print the panel of the project, or the five lines that lead to one."""
    from pathlib import Path

    from medcli.steps.status import is_project

    if is_project(Path.cwd()):
        _show_project()
    else:
        sys.stdout.write(first_page())


def first_page() -> str:
    """The five lines, without a library: a first word should come at once."""
    say = partial(translated, language=language())
    beginning = (
        ("med quickstart", say("see it all work: three minutes, no download")),
        ("med init", say("set up a project: model, data, method")),
        ("med doctor", say("is this machine ready?")),
        ("med --help", say("every command")),
    )
    width = max(len(command) for command, _ in beginning)
    lines = [say("med carries a Chinese medical language model through its life. Begin with:")]
    return "\n".join([*lines, *(f"  {command:<{width}}  {what}" for command, what in beginning)]) + "\n"


def _show_project() -> None:
    from medcli.cli import console
    from medcli.steps.status import status

    found, words = status(), console.words
    console.show_text(str(found.root), style="bold")
    if found.datasets:
        console.say("")
        rows = [(one.name, words(one.kind), one.records, words(one.licence)) for one in found.datasets]
        console.show_table((words("data set"), words("kind"), words("number of records"), words("licence")), rows)
    if found.runs:
        console.say("")
        columns = (words("run"), words("method"), words("data"), words("state"), words("score"))
        console.show_table(columns, [_row(run) for run in found.runs])
    for line in found.broken:
        console.note(f"cannot be read: {line}; see `med doctor`")
    console.say("")
    console.say(f"next: {found.suggestion}", style="bold")


def _row(run: "Run") -> tuple[str, str, str, str, str]:
    from medcli.cli import console

    summary = run.summary
    state = console.words(summary.status)
    if summary.status != "finished" and summary.planned:
        state = f"{state} {summary.steps:,}/{summary.planned:,}"
    scores = [f"{exam} {metric} {value:.3g}" for exam, metric, value in run.scores]
    figures = (("valid", summary.valid_loss), ("reward", summary.valid_reward), ("loss", summary.loss))
    measured = next((f"{name} {value:.3g}" for name, value in figures if value is not None), "")
    return summary.name, summary.method, ", ".join(summary.data), state, "; ".join(scores) or measured
