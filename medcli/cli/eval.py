"""`med eval MODEL --dataset NAME`: let a model answer, or a reward model judge, and print how well it did."""

from dataclasses import asdict, fields
from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json, Plan, settle, takes
from medcli.core.dataset_folder import open_dataset
from medcli.core.errors import UsageError
from medcli.core.model_ref import resolve
from medcli.core.report import Report
from medcli.core.score import Score
from medcli.core.settings import Resolved
from medcli.core.speaker import DISCLAIMER
from medcli.steps import evaluate_pairs
from medcli.steps.evaluate import PERPLEXITY, SECTION, Evaluation, Settings, evaluate, prepare
from medcli.steps.evaluate_pairs import PairEvaluation
from medcli.steps.results import check_fit

app = typer.Typer(rich_markup_mode=None, add_completion=False)
Model = Annotated[str, typer.Argument(help="A run, a model folder, a hub id or med-tiny.", metavar="MODEL")]
_SHARES = ("accuracy", "longer-preferred", "longer-right")  # of pairs: shown in percent
_JUDGED = tuple(field.name for field in fields(evaluate_pairs.Settings))
_ABOUT_PAIRS = (
    "accuracy and longer-… are in percent, margin is in units of the reward, log-loss in nat; less is better of "
    "log-loss, brier and ece; when longer-preferred is well above longer-right, length is preferred for its own sake"
)


@app.command()
@takes(Settings)
def eval_command(model: Model, *, flags: dict[str, Any], json: Json = False, plan: Plan = False) -> None:
    """Measure a model on a data set, with 95 % intervals.

    A model that speaks answers conversations: exact match, BLEU, ROUGE and perplexity. A reward model judges pairs of
    answers: accuracy, margin, calibration, and what length does. All is kept in the run's folder, or in eval/.
    """
    resolved = settle(Settings, SECTION, flags)
    reference = resolve(model)  # an unknown model is told now
    check_fit(model, reference, open_dataset(resolved.values.dataset))
    judges = evaluate_pairs.holds_pairs(resolved.values.dataset)
    if judges and (strange := [name for name in flags if name not in _JUDGED]):
        flag = strange[0].replace("_", "-")
        raise UsageError(f"--{flag} is for answers, and pairs are judged", hint=f"leave --{flag} away")
    if plan:
        _show_plan(model, resolved, judges, json)
        return
    with console.watching() as report:
        found = _judged(model, resolved.values, report) if judges else evaluate(model, resolved.values, report)
    if json:
        console.show_json(asdict(found) | {"file": str(found.file)})
    elif isinstance(found, PairEvaluation):
        _show_pairs(found)
    else:
        _show(found)


def _judged(model: str, settings: Settings, report: Report) -> PairEvaluation:
    return evaluate_pairs.evaluate(model, _of_pairs(settings), report)


def _of_pairs(settings: Settings) -> evaluate_pairs.Settings:
    return evaluate_pairs.Settings(**{name: value for name, value in asdict(settings).items() if name in _JUDGED})


def _show(evaluation: Evaluation) -> None:
    rows = [_row(score, 1 if score.metric == PERPLEXITY else 100) for score in evaluation.scores]
    _show_table(evaluation, rows)
    console.note("exact, bleu and rouge are times 100; perplexity is per token, and less is better")
    console.say(f"every answer: {evaluation.file}")
    console.note(DISCLAIMER)


def _show_pairs(evaluation: PairEvaluation) -> None:
    _show_table(
        evaluation,
        [
            *(_row(score, 100 if score.metric in _SHARES else 1, "pairs") for score in evaluation.scores),
            *(_row(score, 100, "pairs") for score in evaluation.sources),
        ],
    )
    console.note(_ABOUT_PAIRS)
    console.say(f"every pair: {evaluation.file}")


def _show_table(evaluation: Evaluation | PairEvaluation, rows: list[tuple[str, str, str, str]]) -> None:
    title = f"{evaluation.model} on {evaluation.dataset}, {evaluation.split}"
    console.show_table(("metric", "value", "95 % interval", "n"), rows, title=title)


def _row(score: Score, factor: int, unit: str = "") -> tuple[str, str, str, str]:
    """A score as it is printed: shares times 100, as papers give them."""
    unit = unit or ("tokens" if score.metric == PERPLEXITY else "answers")
    places = 2 if factor == 100 or score.metric == PERPLEXITY else 3
    value, low, high = (f"{factor * figure:.{places}f}" for figure in (score.value, score.low, score.high))
    return score.metric, value, f"{low} – {high}", f"{score.count:,} {unit}"


def _show_plan(model: str, resolved: Resolved[Settings], judges: bool, json: bool) -> None:
    rows = [row for row in resolved.rows() if not judges or row[0] in _JUDGED]
    if judges:
        pairs = evaluate_pairs.prepare(model, _of_pairs(resolved.values))
        count, things, split, file, dataset = len(pairs.records), "pairs", pairs.split, pairs.file, pairs.dataset
    else:
        task = prepare(model, resolved.values)
        count, things, split, file, dataset = len(task.items), "answers", task.split, task.file, task.dataset
    if json:
        settings = {name: {"value": value, "origin": origin} for name, value, origin in rows}
        console.show_json({"settings": settings, "split": split, things: count, "file": str(file)})
        return
    console.show_table(("setting", "value", "origin"), rows)
    does = f"judge {count:,} pairs" if judges else f"answer {count:,} conversations"
    console.say(f"{model} would {does} of {dataset.file(split)}")
    console.say(f"every {things.removesuffix('s')} would be in {file}")
