"""`med data`: build, list and look at data sets."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json, Plan, settle, takes
from medcli.core.dataset_folder import SPLITS, built_names, open_dataset
from medcli.core.known_datasets import known_datasets
from medcli.core.record import to_row
from medcli.steps import build_data
from medcli.steps.data_stats import SplitStats, stats
from medcli.steps.show_data import parts_of, record_at, segments_of

app = typer.Typer(rich_markup_mode=None, add_completion=False, help="Build, list and look at data sets.")

Raw = Annotated[Path | None, typer.Option("--raw", help="Folder, or file, that holds the raw data.")]
Split = Annotated[str, typer.Option("--split", help="train, valid or test.")]


@app.command("build", help="Build a data set from a known name, a name in dataset_info.json, a file or a folder.")
@takes(build_data.BuildSettings)
def build(
    target: Annotated[str, typer.Argument(metavar="NAME|FILE|DIR", help="What to build.")],
    flags: dict[str, Any],
    raw: Raw = None,
    plan: Plan = False,
    json: Json = False,
) -> None:
    resolved = settle(build_data.BuildSettings, build_data.SECTION, flags)
    if plan:
        rows = [*resolved.rows(), *build_data.plan(target, resolved.values, raw=raw).rows()]
        _show(json, ("setting", "value", "origin"), rows)
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
    if counts["refused"]:
        console.say(f"  each refused row with its line is in {dataset.path / 'refused.jsonl'}")


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


def _show(json: bool, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    if json:
        console.show_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        console.show_table(columns, [tuple("" if cell is None else cell for cell in row) for row in rows])
