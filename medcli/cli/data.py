"""`med data`: build data sets, and gather the commands of its other files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medcli.cli import console, data_check, data_look, data_sources, data_write, make
from medcli.cli.options import Json, Plan, settle, takes
from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import SPLITS
from medcli.steps import build_data

app = typer.Typer(rich_markup_mode=None, add_completion=False, help="Build, list and look at data sets.")

Raw = Annotated[Path | None, typer.Option("--raw", help="Folder, or file, that holds the raw data.")]


@app.command("build", help="Build a data set from a known name, a name in dataset_info.json, a file or a folder.")
@takes(BuildSettings)
def build(
    target: Annotated[str, typer.Argument(metavar="NAME|FILE|DIR", help="What to build.")],
    flags: dict[str, Any],
    raw: Raw = None,
    plan: Plan = False,
    json: Json = False,
) -> None:
    resolved = settle(BuildSettings, build_data.SECTION, flags)
    if plan:
        rows = [*resolved.rows(), *build_data.plan(target, resolved.values, raw=raw).rows()]
        console.show_rows(json, ("setting", "value", "origin"), rows)
        return
    with console.watching() as report:
        dataset = build_data.build(target, resolved.values, raw=raw, report=report)
    if json:
        console.show_json(dataset.manifest | {"path": str(dataset.path)})
        return
    counts = dataset.manifest["counts"]
    splits = ", ".join(f"{split} {counts[split]:,}" for split in SPLITS)
    console.say(f"{dataset.path}: kept {counts['kept']:,} of {counts['read']:,} rows ({splits})")
    for reason, count in dataset.manifest["refused"].items():
        console.say(f"  refused {count:,}: {reason}")
    for what, count in dataset.manifest["changed"].items():
        if "masked" in what:
            console.say(f"  {count:,} × {what}")
    if counts["refused"]:
        console.say(f"  each refused row with its line is in {dataset.path / 'refused.jsonl'}")
    console.say(f"  the data card is {dataset.path / 'report.html'}")


for part in (data_sources, data_check, data_look, data_write):
    app.add_typer(part.app)
app.add_typer(make.app, name="make")
