"""`med doctor`: what stands in the way of work, each with the command that mends it."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated

import typer

from medcli.cli.options import Json

if TYPE_CHECKING:
    from medcli.core.finding import Finding

app = typer.Typer(rich_markup_mode=None, add_completion=False)

Offline = Annotated[bool, typer.Option("--offline", help="Do not try whether hubs can be reached.")]
Strict = Annotated[bool, typer.Option("--strict", help="End with an error for warnings, too.")]
_SIGNS = {"ok": "✓", "warning": "!", "error": "✗"}
_PLAIN_SIGNS = {"ok": "+", "warning": "!", "error": "x"}  # for an output that has no others
_STYLES = {"ok": "", "warning": "yellow", "error": "bold red"}


@app.command(
    help="Look at Python, libraries, GPUs, memory, disks, hubs, med.toml, data sets, runs and caches, and say how to "
    "mend what is wrong. Changes nothing. Ends with 0 when there is no error, else by the first one: 2 med.toml or a "
    "variable, 3 data, 4 a run or the cache, 5 this machine."
)
def doctor(*, offline: Offline = False, strict: Strict = False, as_json: Json = False) -> None:
    from medcli.cli import console, options
    from medcli.steps import doctor as doctors
    from medcli.steps.doctor_network import hubs

    with console.watching() as report:
        findings = doctors.examine(report, options.every_section(), () if offline else hubs())
    code = doctors.exit_code(findings, strict=strict)
    if as_json:
        from dataclasses import asdict

        console.show_json({"ok": code == 0, "findings": [asdict(finding) for finding in findings]})
    else:
        _show(findings)
    if code:
        raise typer.Exit(code)


def _show(findings: "Sequence[Finding]") -> None:
    from medcli.cli import console

    signs = _signs()
    names = [console.words(finding.check) for finding in findings]
    width = max(map(console.width_of, names))
    for name, finding in zip(names, findings, strict=True):
        space = " " * (width - console.width_of(name) + 2)
        line = f"{signs[finding.state]} {name}{space}{console.words(finding.message)}"
        console.show_text(line, _STYLES[finding.state])
        for hint in filter(None, console.words(finding.hint).splitlines()):
            console.show_text(f"{' ' * (width + 4)}{hint}", "dim")
    console.say("")
    errors = sum(finding.state == "error" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if errors or warnings:
        console.say(f"errors: {errors}, warnings: {warnings}; below each stands how to mend it", "bold")
    else:
        console.say("all is well", "bold green")


def _signs() -> dict[str, str]:
    """The signs that the output can show; where it cannot show all, no letter may end the command that says why."""
    if not isinstance(sys.stdout, TextIOWrapper):
        return _SIGNS
    sys.stdout.reconfigure(errors="replace")
    signs = "".join(_SIGNS.values())
    return _SIGNS if signs.encode(sys.stdout.encoding, "replace").decode(sys.stdout.encoding) == signs else _PLAIN_SIGNS
