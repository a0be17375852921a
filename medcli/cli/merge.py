"""`med merge RUN`."""

from typing import Annotated, Any

import typer

from medcli.cli.options import Json, settle, takes
from medcli.steps.merge import Settings

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(help="Merge a run's adapter into its base model, reload it, and prove that it answers alike.")
@takes(Settings)
def merge(
    model: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder, or an adapter's folder.")],
    *,
    as_json: Json = False,
    flags: dict[str, Any],
) -> None:
    from medcli.cli import console
    from medcli.steps import merge as step

    settings = settle(Settings, "merge", flags).values
    with console.watching() as report:
        merged = step.merge(model, settings, report)
    if as_json:
        console.show_json({"path": str(merged.path), "dtype": merged.dtype, "compared": merged.compared, "equal": True})
        return
    console.say(f"{merged.path}: {merged.bytes / 2**20:.1f} MiB, {merged.dtype}")
    console.say(f"greedy answers to {merged.compared} prompts are equal to the adapter's")
    console.say(f"next:  med chat {merged.path}")
