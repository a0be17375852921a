"""`med data convert` and `med data vocab`: a data set in other tools' formats, and what tokenizers make of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medcli.cli import console
from medcli.cli.options import Json
from medcli.core.dataset_folder import open_dataset
from medcli.steps import convert_data

app = typer.Typer()

To = Annotated[str, typer.Option("--to", metavar="|".join(convert_data.TARGETS), help="The format to write.")]


@app.command("convert", help="Write a built data set as OpenAI, LLaMA-Factory and other tools read it.")
def convert(
    name: Annotated[str, typer.Argument(help="A built data set.")],
    to: To,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder to write; NAME-FORMAT here.")] = None,
    json: Json = False,
) -> None:
    dataset = open_dataset(name)
    with console.watching() as report:
        done = convert_data.convert(dataset, to, out or Path(f"{dataset.name}-{to}"), report)
    if json:
        console.show_json(asdict(done) | {"path": str(done.path)})
        return
    counts = ", ".join(f"{split} {count:,}" for split, count in done.counts.items())
    console.say(f"{done.path}: {sum(done.counts.values()):,} {done.kind}s ({counts}), licence {done.licence}")
