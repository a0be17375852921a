"""`med clean`: what med can do without, and freeing it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medcli.cli.options import Json
from medcli.core.errors import UsageError

if TYPE_CHECKING:
    from medcli.steps.clean import Freeable

app = typer.Typer(rich_markup_mode=None, add_completion=False)

Kinds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KIND…]",
        help="Of med-tiny, trunk, downloads, words, launches, leftovers, checkpoints; all but the last when not given.",
    ),
]
Checkpoints = Annotated[bool, typer.Option("--checkpoints", help="Checkpoints of finished runs, too.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command(
    help="Show what can be freed and how it is had again, then ask whether to free it. What a process uses, runs, data "
    "sets and what Hugging Face has downloaded stay. --json only shows."
)
def clean(kinds: Kinds = None, *, checkpoints: Checkpoints = False, yes: Yes = False, as_json: Json = False) -> None:
    from medcli.cli import console
    from medcli.steps import clean as cleaning

    if as_json and yes:
        raise UsageError("--json only shows what could be freed", hint="leave out --json, or --yes")
    found = cleaning.freeable(kinds or (), checkpoints=checkpoints)
    hub, hub_size = cleaning.hub_size()
    if as_json:
        rows = [
            {"kind": one.kind, "path": str(one.path), "bytes": one.size, "again": one.hint, "held": one.held}
            for one in found
        ]
        total = sum(one.size for one in found if not one.held)
        console.show_json({"freeable": rows, "bytes": total, "hub": {"path": str(hub), "bytes": hub_size}})
        return
    _show(found)
    if hub_size:
        console.note(f"{_short(hub)}: {_size(hub_size)} of Hugging Face, which med leaves alone")
    going = [one for one in found if not one.held]
    if going and _is_wanted(sum(one.size for one in going), yes):
        freed = sum(cleaning.free(one) for one in going)
        console.say(f"{_size(freed)} are free now")


def _show(found: "list[Freeable]") -> None:
    from medcli.cli import console

    if not found:
        console.say("there is nothing to free")
        return
    rows = [
        (one.kind, _short(one.path), _size(one.size), console.words("in use: it stays" if one.held else one.hint))
        for one in found
    ]
    words = console.words
    console.show_table((words("kind"), words("place"), words("size"), words("had again")), rows)


def _is_wanted(size: int, yes: bool) -> bool:
    from medcli.cli import console

    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"nobody is here to ask whether to free {_size(size)}", hint="add --yes")
    wanted = typer.confirm(console.words(f"Free {_size(size)}?"), err=True)
    if not wanted:
        console.note("nothing is deleted")
    return wanted


def _short(path: Path) -> str:
    """A path from the working folder, or from the home folder, where it lies in one."""
    for base, sign in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return f"{sign}{path.relative_to(base)}"
    return str(path)


def _size(size: int) -> str:
    from medcli.core.cache import readable

    return readable(size)
