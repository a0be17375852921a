"""`med data show` and `med data stats`: look at a built data set."""

from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json
from medcli.core.dataset_folder import open_dataset
from medcli.core.record import to_row
from medcli.steps.data_stats import SplitStats, stats
from medcli.steps.show_data import parts_of, record_at, segments_of

app = typer.Typer()

Split = Annotated[str, typer.Option("--split", help="train, valid or test.")]


@app.command("show", help="Print record N of a built data set.")
def show(
    name: Annotated[str, typer.Argument(help="A built data set.")],
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="Which record, counted from 1.")] = 1,
    split: Split = "train",
    tokens: Annotated[str, typer.Option("--tokens", metavar="MODEL", help="Show it as this model sees it.")] = "",
    json: Json = False,
) -> None:
    record = record_at(open_dataset(name), split, number)
    if tokens:
        with console.watching() as report:
            segments, count, learnt = segments_of(record, tokens, report)
        console.show_segments([(segment.text, segment.trained) for segment in segments], result=True)
        console.say(f"{count:,} tokens, of which {learnt:,} are learnt (green, or in ⟦ ⟧)")
        return
    if json:
        console.show_json(to_row(record))
        return
    console.say(f"{record.id}  (record {number} of {split}, from {record.source})", style="dim")
    for role, text in parts_of(record):
        console.say(role, style="bold")
        console.say(f"  {text}")


@app.command("stats", help="Count a built data set: splits, refusals, turns, lengths.")
def stats_(name: Annotated[str, typer.Argument(help="A built data set.")], json: Json = False) -> None:
    dataset = open_dataset(name)
    figures = stats(dataset)
    if json:
        splits = {s.split: {"records": s.records, "turns": s.turns, "characters": s.lengths} for s in figures}
        parts = {key: dataset.manifest[key] for key in ("name", "kind", "counts", "refused")}
        console.show_json(parts | {"splits": splits})
        return
    counts = dataset.manifest["counts"]
    account = f"read {counts['read']:,} = kept {counts['kept']:,} + refused {counts['refused']:,}"
    console.say(f"{dataset.name}: {dataset.kind}s, {account}")
    console.show_table(
        ("split", "records", "answers a record", "characters: half", "90%", "99%", "longest"),
        list(map(_line, figures)),
    )
    if dataset.manifest["refused"]:
        console.show_table(("refused because", "rows"), list(dataset.manifest["refused"].items()))


def _line(figures: SplitStats) -> tuple[Any, ...]:
    turns = ", ".join(f"{count:,} × {answers}" for answers, count in list(figures.turns.items())[:4])
    more = " …" if len(figures.turns) > 4 else ""
    lengths = list(figures.lengths.values()) or [0, 0, 0, 0]
    return (figures.split, figures.records, turns + more, *lengths)
