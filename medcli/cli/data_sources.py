"""`med data list` and `med data info`: which data sets there are, and everything about one."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json
from medcli.core.dataset_folder import built_names, open_dataset
from medcli.core.errors import UnknownNameError
from medcli.core.known_datasets import known_datasets
from medcli.steps.describe_data import describe

app = typer.Typer()


@app.command("list", help="List the data sets that are built, and those known by name; with WORD, those that have it.")
def list_(
    word: Annotated[str, typer.Argument(help="Part of a name, title, language, licence …")] = "", json: Json = False
) -> None:
    built = {name: open_dataset(name).manifest for name in built_names()}
    known = known_datasets()
    about = {name: " ".join(map(str, asdict(item).values())) for name, item in known.items()}
    texts = {name: f"{name} {built.get(name, '')} {about.get(name, '')}".lower() for name in {*built, *known}}
    chosen = {name for name, text in texts.items() if word.lower() in text}
    if not chosen:
        raise UnknownNameError("data set", word, texts, hint="see them all: med data list")
    made = [built[name] for name in built if name in chosen]
    rest = [known[name] for name in known if name in chosen]
    if json:
        console.show_json({"built": made, "known": [asdict(item) for item in rest]})
        return
    if made:
        rows: list[tuple[Any, ...]] = [(m["name"], m["kind"], m["counts"]["kept"], m["licence"]) for m in made]
        console.show_table(("built", "kind", "records", "licence"), rows)
        console.say("")
    others = [item for item in rest if item.name not in built]
    for kind in dict.fromkeys(item.kind for item in others):
        items = [item for item in others if item.kind == kind]
        rows = [(i.name, i.language, _short(i.size), _short(i.licence), i.commercial) for i in items]
        console.show_table((f"{kind}s", "lang", "size", "licence", "commerce"), rows)
        console.say("")
    console.note("more about one: med data info NAME    get and build it: med data build NAME")


@app.command("info", help="Everything about one data set: licence, size, where it lies, how to get it.")
def info(name: Annotated[str, typer.Argument(help="A name of `med data list`.")], json: Json = False) -> None:
    description = describe(name)
    if json:
        console.show_json(description.table())
        return
    console.show_table((name, ""), description.rows())


def _short(text: str) -> str:
    """What stands before a qualification: "CC-BY-4.0, academic use only"; `info` gives the whole."""
    return text.partition(", ")[0]
