"""`med eval MODEL --dataset NAME`: let a model answer a data set and print how well it did."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json, Plan, settle, takes
from medcli.core.model_ref import resolve
from medcli.core.score import Score
from medcli.core.settings import Resolved
from medcli.core.speaker import DISCLAIMER
from medcli.steps.evaluate import PERPLEXITY, SECTION, Evaluation, Settings, evaluate, prepare

app = typer.Typer(rich_markup_mode=None, add_completion=False)
Model = Annotated[str, typer.Argument(help="A run, a model folder, a hub id or med-tiny.", metavar="MODEL")]


@app.command()
@takes(Settings)
def eval_command(model: Model, *, flags: dict[str, Any], json: Json = False, plan: Plan = False) -> None:
    """Measure a model on a data set: exact match, BLEU, ROUGE and perplexity, with 95 % intervals.

    Every answer is kept with its scores in the run's folder, or in eval/ when the model is no run.
    """
    resolved = settle(Settings, SECTION, flags)
    if plan:
        _show_plan(model, resolved, json)
        return
    with console.watching() as report:
        evaluation = evaluate(model, resolved.values, report)
    if json:
        console.show_json(asdict(evaluation) | {"file": str(evaluation.file)})
    else:
        _show(evaluation)


def _show(evaluation: Evaluation) -> None:
    console.show_table(
        ("metric", "value", "95 % interval", "n"),
        [_row(score) for score in evaluation.scores],
        title=f"{evaluation.model} on {evaluation.dataset}, {evaluation.split}",
    )
    console.note("exact, bleu and rouge are times 100; perplexity is per token, and less is better")
    console.say(f"every answer: {evaluation.file}")
    console.note(DISCLAIMER)


def _row(score: Score) -> tuple[str, str, str, str]:
    """A score as it is printed: all but perplexity times 100, as papers give them."""
    factor, unit = (1, "tokens") if score.metric == PERPLEXITY else (100, "answers")
    value, low, high = (f"{factor * figure:.2f}" for figure in (score.value, score.low, score.high))
    return score.metric, value, f"{low} – {high}", f"{score.count:,} {unit}"


def _show_plan(model: str, resolved: Resolved[Settings], json: bool) -> None:
    resolve(model)  # an unknown model is told now
    task = prepare(model, resolved.values)
    rows = resolved.rows()
    if json:
        settings = {name: {"value": value, "origin": origin} for name, value, origin in rows}
        console.show_json(
            {"settings": settings, "split": task.split, "answers": len(task.items), "file": str(task.file)}
        )
        return
    console.show_table(("setting", "value", "origin"), rows)
    console.say(f"{model} would answer {len(task.items):,} conversations of {task.dataset.file(task.split)}")
    console.say(f"every answer would be in {task.file}")
