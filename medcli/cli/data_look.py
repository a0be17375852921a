"""`med data show` and `med data stats`: look at a built data set."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Annotated

import typer

from medcli.cli import console
from medcli.cli.options import Json
from medcli.core.dataset_folder import DatasetFolder, open_dataset
from medcli.core.distribution import Distribution
from medcli.core.record import to_row
from medcli.steps import data_card
from medcli.steps.data_stats import Cut, Stats, as_table, commercial_use, duplicates, leading, stats
from medcli.steps.show_data import parts_of, record_at, segments_of

app = typer.Typer()

Split = Annotated[str, typer.Option("--split", help="train, valid or test.")]
Name = Annotated[str, typer.Argument(help="A built data set.")]


@app.command("show", help="Print record N of a built data set.")
def show(
    name: Name,
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
        console.show_text(role, style="bold")
        console.show_text(indent(text, "  "))


@app.command("stats", help="Count a built data set: splits, refusals, turns, lengths, languages.")
def stats_(
    name: Name,
    tokens: Annotated[str, typer.Option("--tokens", metavar="MODEL", help="Count this model's tokens, too.")] = "",
    max_length: Annotated[int | None, typer.Option(min=1, metavar="N", help="Count what is longer than this.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the data card to FILE.")] = None,
    json: Json = False,
) -> None:
    dataset = open_dataset(name)
    with console.watching() as report:
        figures = stats(dataset, tokens=tokens, max_length=max_length, report=report)
    if html:
        data_card.write(dataset, figures, html)
    if json:
        console.show_json(as_table(dataset, figures))
        return
    _show_account(dataset)
    _show_lengths(figures)
    _show_origins(figures)
    if figures.cut:
        _show_cut(figures.cut)


def _show_account(dataset: DatasetFolder) -> None:
    manifest, counts = dataset.manifest, dataset.manifest["counts"]
    console.say(f"{dataset.name}: {dataset.kind}s", style="bold")
    console.say(f"read {counts['read']:,} = kept {counts['kept']:,} + refused {counts['refused']:,}")
    console.say(f"licence: {manifest['licence']}; commercial use: {commercial_use(dataset)}")
    _show_counts("refused because", "rows", manifest["refused"])
    _show_counts("of these, repeated", "rows", duplicates(dataset))
    _show_counts("mended or masked", "times", manifest.get("changed", {}))


def _show_lengths(figures: Stats) -> None:
    _show_percentiles("characters", {part.split: part.characters for part in figures.splits})
    if figures.model:
        _show_percentiles("tokens", {part.split: part.tokens for part in figures.splits})
    for what, numbers in (
        ("answers in a record", figures.turns),
        ("characters in a record", figures.characters),
        (f"tokens in a record, of {figures.model}", figures.tokens),
    ):
        if numbers.counts:
            console.say("")
            console.show_bars(what, [(part.label, part.count) for part in numbers.bins])


def _show_percentiles(unit: str, parts: Mapping[str, Distribution]) -> None:
    rows = [(split, part.count, *(part.percentiles.values() or [0] * 4)) for split, part in parts.items()]
    console.say("")
    console.show_table(("split", "records", f"{unit}: half", "90%", "99%", "longest"), rows)


def _show_origins(figures: Stats) -> None:
    for what, counts in (("department", figures.departments), ("source", figures.sources)):
        named, others = leading(counts)
        _show_counts(what, "records", named | ({"(others)": others} if others else {}))
    _show_counts("language", "records", figures.languages)
    console.say(f"{figures.han:.1%} of all letters are Han characters")


def _show_counts(what: str, unit: str, counts: Mapping[str, int]) -> None:
    if counts:
        console.say("")
        console.show_table((what, unit), [(name or "(not given)", count) for name, count in counts.items()])


def _show_cut(cut: Cut) -> None:
    console.say(f"\nat a length of {cut.max_length:,} {cut.unit}, where the oldest exchanges are left out first:")
    console.say(f"  {cut.shortened:,} of {cut.records:,} records lose their oldest exchanges")
    console.say(f"  {cut.unanswered:,} keep no whole answer, and are not trained on")
    lost = cut.lost / (cut.answers or 1)
    console.say(f"  {cut.lost:,} of {cut.answers:,} {cut.unit} in answers ({lost:.1%}) are lost")
