"""`med data check`: does a training set repeat what an exam or a test split asks?"""

from dataclasses import asdict
from typing import Annotated

import typer

from medcli.cli import console
from medcli.cli.options import Json
from medcli.core.errors import DataError
from medcli.core.fingerprint import LEAK
from medcli.steps import check_data

app = typer.Typer()
_PRINTED = 20


@app.command("check", help="Look for what an exam or a test split asks in a training set; exit code 3 when it leaks.")
def check(
    train: Annotated[str, typer.Argument(help="A built data set (its train split), or a raw file.")],
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="A,B,…", help="Sets or raw files held out; all built ones when not given."),
    ] = None,
    similarity: Annotated[
        float, typer.Option("--similarity", min=0.3, max=1.0, help="Share of an item that a training text must hold.")
    ] = LEAK,
    allow: Annotated[float, typer.Option("--allow", min=0.0, max=1.0, help="Share of items that may leak.")] = 0.0,
    json: Json = False,
) -> None:
    names = [name for given in against or [] for name in given.split(",") if name]
    with console.watching() as report:
        checked = check_data.check(train, names, similarity=similarity, report=report)
    if json:
        console.show_json(asdict(checked) | {"share": checked.share})
    else:
        _show(checked)
    if checked.share > allow:
        raise DataError(
            f"{checked.leaked:,} of {checked.items:,} held-out items ({checked.share:.2%}) stand in {train}",
            hint=f"build it without them: med data build … --without {','.join(names or checked.against)}",
        )


def _show(checked: check_data.Checked) -> None:
    if checked.pairs:
        rows = [(f"{pair.similarity:.0%}", pair.train, pair.held_out, pair.asked) for pair in checked.pairs]
        console.show_table(("alike", "training record", "held out", "asked"), rows[:_PRINTED])
        if len(rows) > _PRINTED:
            console.say(f"… and {len(rows) - _PRINTED:,} more pairs (all of them with --json)")
    console.say(
        f"{checked.records:,} records compared with {checked.items:,} held-out items of "
        f"{', '.join(checked.against)}: {checked.leaked:,} leak ({checked.share:.2%})"
    )
