"""`med data list`: which data sets there are."""

from dataclasses import asdict

import typer

from medcli.cli import console
from medcli.cli.options import Json
from medcli.core.dataset_folder import built_names, open_dataset
from medcli.core.known_datasets import known_datasets

app = typer.Typer()


@app.command("list", help="List the data sets that are built, and those known by name.")
def list_(json: Json = False) -> None:
    built = {name: open_dataset(name).manifest for name in built_names()}
    known = known_datasets()
    if json:
        console.show_json({"built": list(built.values()), "known": [asdict(item) for item in known.values()]})
        return
    rows = [(n, m["kind"], f"built: {m['counts']['kept']:,} records", "") for n, m in built.items()]
    rows += [(k.name, k.kind, k.title, k.commercial) for k in known.values() if k.name not in built]
    console.show_table(("name", "kind", "what", "commercial use"), rows)
    console.note("build a known one: med data build NAME --raw DIR (`--json` shows where to get the files)")
