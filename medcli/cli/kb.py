"""`med kb …`: build knowledge bases that answers can rest on, list them, look into them, ask them."""

from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json, settle, takes
from medcli.core.errors import UsageError
from medcli.core.knowledge_base import REFUSED, base_names, open_base
from medcli.steps import kb
from medcli.steps.grounded import LIMIT, open_library

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

SOURCE_HELP = "Folders or files of texts and tables, built data sets, knowledge graphs."
Sources = Annotated[list[str], typer.Argument(metavar="SOURCE…", help=SOURCE_HELP)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A built knowledge base.")]


@app.callback(help="Build knowledge bases that answers can rest on, and look into them.")
def _group() -> None:
    return None


@app.command("build", help="Make one of texts, data sets and knowledge graphs.")
@takes(kb.Settings)
def build(sources: Sources, *, flags: dict[str, Any], json: Json = False) -> None:
    settings = settle(kb.Settings, kb.SECTION, flags).values
    with console.watching() as report:
        base = kb.build(sources, settings, report)
    if json:
        console.show_json(base.manifest | {"path": str(base.path)})
        return
    _show_account(base.manifest, str(base.path))
    if base.manifest["counts"]["refused"]:
        console.say(f"  each one that was refused, with its place, is in {base.path / REFUSED}")
    console.say(f'  try it: med kb find {base.name} "…"; then: med chat MODEL --kb {base.name}')


@app.command("list", help="All knowledge bases: how many passages, and of what.")
def list_bases(*, json: Json = False) -> None:
    rows = []
    for name in base_names():
        manifest = open_base(name).manifest
        rows.append((name, manifest["counts"]["kept"], ", ".join(source["name"] for source in manifest["sources"])))
    if not rows and not json:
        console.note("no knowledge bases yet; `med kb build SOURCE --name NAME` makes one")
        return
    console.show_rows(json, ("name", "passages", "sources"), rows)


@app.command("show", help="What one was built from, and what was refused.")
def show(name: Name, *, json: Json = False) -> None:
    base = open_base(name)
    if json:
        console.show_json(base.manifest | {"path": str(base.path)})
        return
    _show_account(base.manifest, str(base.path))
    console.say("")
    rows = [(source["name"], source["kind"], source["passages"]) for source in base.manifest["sources"]]
    console.show_table(("source", "kind", "passages"), rows)


@app.command("find", help="The passages that fit a question, the best first.")
def find(
    name: Name,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to look for.")],
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many passages.")] = LIMIT,
    json: Json = False,
) -> None:
    if not question.strip():
        raise UsageError("the question is empty")
    library = open_library(name)
    found = library.find(question, limit)
    rows = [(round(one.score, 3), one.exact, one.passage.text, one.passage.source) for one in found]
    if json:
        console.show_rows(True, ("score", "exact", "passage", "source"), rows)
        return
    for number, (score, exact, text, source) in enumerate(rows, 1):
        console.show_text(f"[{number}] {'fact' if exact else f'{score:.2f}'}  {source}", style="bold")
        console.show_text(text)
    if not rows:
        near = library.nearest(question)
        console.note(f"nothing fits: the nearest passage has {near:.0%} of what is asked")


def _show_account(manifest: dict[str, Any], path: str) -> None:
    counts = manifest["counts"]
    console.say(f"{path}: kept {counts['kept']:,} of {counts['read']:,} passages")
    for reason, count in manifest["refused"].items():
        console.say(f"  refused {count:,}: {reason}")
    for what, count in manifest["changed"].items():
        if "masked" in what:
            console.say(f"  {count:,} × {what}")
