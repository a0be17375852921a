"""`med eval MODEL… --exam NAME,…`: let models sit exams, and print how well they did."""

from typing import Annotated, Any

import typer

from medcli.cli import console, eval_compare, eval_tables
from medcli.cli.options import Json, Plan, settle, takes
from medcli.core.errors import UsageError
from medcli.core.exam_file import Examination
from medcli.core.exam_settings import RULES, EvalSettings
from medcli.core.report import Report, Silent
from medcli.core.settings import Resolved
from medcli.steps import bounds, evaluate, sit_both
from medcli.steps.candidates import check_reference
from medcli.steps.evaluate import SECTION
from medcli.steps.exam_tasks import Task, named, prepare
from medcli.steps.results import results_file

app = typer.Typer(rich_markup_mode=None, add_completion=False)
MODELS_HELP = "Runs, model folders, hub ids, med-tiny, services (URL#NAME); with --compare also files of outcomes."
Models = Annotated[list[str] | None, typer.Argument(help=MODELS_HELP, metavar="MODEL...", show_default=False)]
Compare = Annotated[bool, typer.Option("--compare", help="Compare two models answer by answer; writes report.html.")]


@app.command()
@takes(EvalSettings)
def eval_command(
    models: Models = None, compare: Compare = False, *, flags: dict[str, Any], json: Json = False, plan: Plan = False
) -> None:
    """Let models sit exams, with 95 % intervals; every answer is kept.

    Conversations are answered anew, exam questions chosen from, cases of triage and dialogue judged; a reward model
    judges pairs of answers. What is found lies in the run's folder, or in eval/. A stopped exam goes on.
    """
    resolved = settle(EvalSettings, SECTION, flags)
    settings = resolved.values
    limits = bounds.bounds_of(settings)
    names = [str(settings.answers)] if settings.answers and not models else models or []
    _check(names, settings, compare)
    if plan:
        _show_plan(names, resolved, _tasks(names, settings, compare, Silent()), json)
        return
    if compare:
        found = _show_comparison(names, settings, json)
    else:
        found = _found(names, settings)
        _show(found, json)
    bounds.check(found, limits)


def _check(names: list[str], settings: EvalSettings, compare: bool) -> None:
    """Raise UsageError for too few or too many models, and for gold without answers."""
    if settings.scores:
        return
    if compare and len(names) != 2:
        raise UsageError("--compare takes two models", hint="med eval --compare A B --exam NAME")
    if settings.answers and names != [str(settings.answers)]:
        raise UsageError("--answers stands in place of MODEL", hint="leave one of them out")
    if not names:
        raise UsageError("no MODEL is named", hint="med eval MODEL --exam NAME, or --answers FILE --exam NAME")
    if settings.gold and not settings.answers:
        raise UsageError(
            "--gold holds only right answers, no questions", hint="name the answers to mark: --answers FILE"
        )


def _found(names: list[str], settings: EvalSettings) -> list[Examination]:
    """What came of all exams, those of one exam together."""
    with console.watching() as report:
        if settings.scores:
            return [evaluate.summed_up(settings)]
        tasks = _tasks(names, settings, False, report)
        found = [evaluate.evaluate(name, tasks, settings, report) for name in names]
    return [one for same in zip(*found, strict=True) for one in same]


def _tasks(names: list[str], settings: EvalSettings, compare: bool, report: Report) -> list[Task]:
    """The exams, ready to be sat by all who are named; raises what tells that they cannot be."""
    exams = named(settings)
    for name in names if not settings.answers else []:
        if any(exam.dataset is None for exam in exams):
            check_reference(name, [])
        check_reference(name, [exam.dataset for exam in exams if exam.dataset])
    for helper in (settings.patient, settings.judge):
        if helper != RULES:
            check_reference(helper, [])
    return sit_both.tasks_of(settings, report) if compare else prepare(settings, report)


def _show_comparison(names: list[str], settings: EvalSettings, json: bool) -> list[Examination]:
    """Print how two models compare, and return the second one's outcomes, which --min and --max are about."""
    with console.watching() as report:
        if all(map(sit_both.is_outcome, names)):
            sides = sit_both.of_files(names)
        else:
            sides = sit_both.both(names, _tasks(names, settings, True, report), settings, report)
        comparison, path = sit_both.compared(sides, settings, report)
    eval_compare.show(comparison, path, as_json=json)
    return list(sides[1])


def _show(found: list[Examination], json: bool) -> None:
    if json:
        console.show_json(eval_tables.as_json(found))
    else:
        eval_tables.show(found)


def _show_plan(names: list[str], resolved: Resolved[EvalSettings], tasks: list[Task], json: bool) -> None:
    rows, kb = resolved.rows(), resolved.values.kb
    exams = [
        (name, task.name, len(task.paper.items), str(results_file(name, task.name, kb)))
        for name in names
        for task in tasks
    ]
    if json:
        settings = {name: {"value": value, "origin": origin} for name, value, origin in rows}
        columns = ("model", "exam", "items", "file")
        console.show_json({"settings": settings, "exams": [dict(zip(columns, row, strict=True)) for row in exams]})
        return
    console.show_table(("setting", "value", "origin"), rows)
    for model, exam, items, file in exams:
        console.say(f"{model} would sit {exam}: {items:,} items, every answer in {file}")
