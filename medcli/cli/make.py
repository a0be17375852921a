"""`med data make …`: data sets from knowledge graphs, documents, other data sets and a model's name."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json, Plan, settle, takes
from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.report import Report
from medcli.core.settings import Resolved
from medcli.makers import identity, kg, literature, preference, rewrite
from medcli.steps import build_data, make_data

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

Source = Annotated[Path, typer.Argument(metavar="FILE|DIR", help="What to make it from.")]
Dataset = Annotated[str, typer.Argument(metavar="NAME", help="A built data set of conversations.")]
Made = Callable[[Any, BuildSettings, Report], list[DatasetFolder]]


@app.callback(help="Make data sets from a knowledge graph, documents, other data sets or a model's name.")
def _group() -> None:
    return None


@app.command("kg", help="Questions about a knowledge graph in seven forms, or in a model's words with --llm.")
@takes(kg.Settings)
def kg_command(source: Source, *, flags: dict[str, Any], plan: Plan = False, json: Json = False) -> None:
    _make(
        settle(kg.Settings, "data.make.kg", flags), plan, json,
        lambda settings, how, report: make_data.make_kg(source, settings, how, report),
    )  # fmt: skip


@app.command("identity", help="Dialogues in Chinese and English in which a model says who it is.")
@takes(identity.Settings)
def identity_command(*, flags: dict[str, Any], plan: Plan = False, json: Json = False) -> None:
    _make(
        settle(identity.Settings, "data.make.identity", flags), plan, json,
        lambda settings, how, report: [make_data.make_identity(settings, how, report)],
    )  # fmt: skip


@app.command("literature", help="Dialogues about documents, written by the model behind --llm and checked.")
@takes(literature.Settings)
def literature_command(source: Source, *, flags: dict[str, Any], plan: Plan = False, json: Json = False) -> None:
    _make(
        settle(literature.Settings, "data.make.literature", flags), plan, json,
        lambda settings, how, report: [make_data.make_literature(source, settings, how, report)],
    )  # fmt: skip


@app.command("rewrite", help="Forum dialogues in clean words by the model behind --llm; every fact must survive.")
@takes(rewrite.Settings)
def rewrite_command(dataset: Dataset, *, flags: dict[str, Any], plan: Plan = False, json: Json = False) -> None:
    _make(
        settle(rewrite.Settings, "data.make.rewrite", flags), plan, json,
        lambda settings, how, report: [make_data.make_rewrite(dataset, settings, how, report)],
    )  # fmt: skip


@app.command("preference", help="Pairs of answers, ranked by --llm, by --reward, or by the data set's own.")
@takes(preference.Settings)
def preference_command(dataset: Dataset, *, flags: dict[str, Any], plan: Plan = False, json: Json = False) -> None:
    _make(
        settle(preference.Settings, "data.make.preference", flags), plan, json,
        lambda settings, how, report: [make_data.make_preference(dataset, settings, how, report)],
    )  # fmt: skip


def _make(resolved: Resolved[Any], plan: bool, json: bool, made: Made) -> None:
    if plan:
        console.show_rows(json, ("setting", "value", "origin"), resolved.rows())
        return
    how = settle(BuildSettings, build_data.SECTION, {}).values
    with console.watching() as report:
        sets = made(resolved.values, how, report)
    if json:
        console.show_json([dataset.manifest | {"path": str(dataset.path)} for dataset in sets])
        return
    for dataset in sets:
        _show(dataset)


def _show(dataset: DatasetFolder) -> None:
    counts = dataset.manifest["counts"]
    splits = ", ".join(f"{split} {counts[split]:,}" for split in SPLITS)
    console.say(f"{dataset.path}: made {counts['kept']:,} {dataset.kind}s ({splits})")
    for reason, count in dataset.manifest["refused"].items():
        console.say(f"  refused {count:,}: {reason}")
    console.say(
        f"  made from {make_data.made_file(dataset.name)}; refused ones are in {dataset.path / 'refused.jsonl'}"
    )
