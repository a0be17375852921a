"""`med merge RUN…`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcli.cli.options import Json, settle, takes
from medcli.steps.merge import Settings

if TYPE_CHECKING:
    from medcli.steps.merge import Merged

app = typer.Typer(rich_markup_mode=None, add_completion=False)

HELP = """Merge a run's adapter into its base model, reload it, and prove that it answers alike.

The stages of one run are laid on in order. Of several LoRA runs on the same base the differences from it are added up,
each times its weight: med merge A B --weights 0.7,0.3 --output FOLDER. The base's files are read, changed and written
piece by piece; only the proof, which --no-check leaves out, loads a whole model."""


@app.command(help=HELP)
@takes(Settings)
def merge(
    models: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Names or folders of runs, or folders of adapters.")
    ],
    *,
    as_json: Json = False,
    flags: dict[str, Any],
) -> None:
    from medcli.cli import console
    from medcli.steps import merge as step

    settings = settle(Settings, "merge", flags).values
    with console.watching() as report:
        merged = step.merge(models[0], settings, report, models[1:])
    if as_json:
        console.show_json(_table(merged))
        return
    console.say(f"{merged.path}: {merged.bytes / 2**20:.1f} MiB, {merged.dtype}")
    for line in _shown(merged, several=len(models) > 1):
        console.say(line)
    console.say(f"next:  med chat {merged.path}")


def _shown(merged: "Merged", several: bool) -> list[str]:
    if not merged.compared:
        return ["no proof was made: it was not compared with the adapter"]
    equal = f"{merged.compared - merged.different} of {merged.compared}" if merged.different else f"{merged.compared}"
    other = "those of the runs added up in memory" if several else "the adapter's"
    return [
        f"greedy answers to {equal} prompts are equal to {other}",
        f"largest difference: {merged.logits:.2g} of a logit, {merged.log_probabilities:.2g} of a log-probability",
    ]


def _table(merged: "Merged") -> dict[str, Any]:
    return {
        "path": str(merged.path),
        "dtype": merged.dtype,
        "compared": merged.compared,
        "equal": not merged.different if merged.compared else None,
        "different": merged.different,
        "logits": merged.logits,
        "log_probabilities": merged.log_probabilities,
        "streamed": merged.streamed,
        "bytes": merged.bytes,
    }
