"""Two models, the same exams: sat now, or read from the outcomes that are there, and compared item by item."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medcli.core import exam_file
from medcli.core.comparison import Comparison
from medcli.core.exam_file import Examination
from medcli.core.exam_settings import EvalSettings
from medcli.core.report import Report
from medcli.core.service_ref import service_of
from medcli.core.settings import project_root
from medcli.steps import compare_report
from medcli.steps.candidates import describe, open_helper
from medcli.steps.compare import compare
from medcli.steps.compare_check import check_alike, check_exams
from medcli.steps.evaluate import evaluate, identity, sat_with
from medcli.steps.exam_tasks import EXAMS, Task, prepare
from medcli.steps.results import results_file, short_name

_OUTCOME = ".json"


def is_outcome(name: str) -> bool:
    """Whether a model is named by the file of an exam that it has sat."""
    return name.endswith(_OUTCOME) and Path(name).is_file()


def tasks_of(settings: EvalSettings, report: Report) -> list[Task]:
    """The exams that are named, and those that show what was forgotten."""
    tasks = prepare(settings, report)
    names = {task.name for task in tasks} | {task.kind for task in tasks}
    if "pairs" in names:  # a reward model knows nothing but which answer is better
        return tasks
    general = [name for name in settings.general if name not in names]
    every = prepare(replace(settings, exam=tuple(general), dataset=None, split=None), report) if general else []
    return [*tasks, *every]


def both(
    models: Sequence[str], tasks: Sequence[Task], settings: EvalSettings, report: Report
) -> list[list[Examination]]:
    """The outcomes of each model; an exam that was sat just so before is not sat again."""
    found = []
    for model in models:
        there = {task.name: _there(model, task, settings) for task in tasks}
        waiting = [task for task in tasks if there[task.name] is None]
        for task in tasks:
            if there[task.name]:
                report.note(f"{model} has sat {task.name} before: {results_file(model, task.name, settings.kb)}")
        sat = {one.exam: one for one in evaluate(model, waiting, settings, report)} if waiting else {}
        found.append([sat.get(task.name) or there[task.name] for task in tasks])
    return [[one for one in some if one is not None] for some in found]


def of_files(names: Sequence[str]) -> list[list[Examination]]:
    """The outcomes in two files; raises DataError for one that is none."""
    return [[exam_file.read(Path(name))] for name in names]


def compared(
    found: Sequence[Sequence[Examination]], settings: EvalSettings, report: Report
) -> tuple[Comparison, Path]:  # fmt: skip
    """The comparison of the second model with the first, and where its report is; raises DataError."""
    one, other = found
    check_exams(one, other)
    preferences = {}
    judge = open_helper(settings.judge, settings, report)
    for first, second in zip(one, other, strict=True):
        if judge and first.kind == "dialogue":  # without one, marks are all there is, and they are compared anyway
            check_alike(first, second)
            dialogue = EXAMS.get("dialogue")
            by_id = {mark.item.id: mark for mark in second.marked}
            pairs = [(mark, by_id[mark.item.id]) for mark in first.marked]
            preferences[first.exam] = dialogue.summed(dialogue.prefer(pairs, judge, report))
    comparison = compare(one, other, settings.seed, _general(one, settings), preferences)
    folder = f"{short_name(comparison.other)}-against-{short_name(comparison.one)}"
    path = project_root() / "eval" / folder / compare_report.REPORT
    compare_report.write(comparison, path)
    return comparison, path


def _general(found: Sequence[Examination], settings: EvalSettings) -> set[str]:
    """The exams of general ability by the names of their outcomes."""
    return {one.exam for one in found if {one.exam, one.kind, one.dataset.get("name")} & set(settings.general)}


def _there(model: str, task: Task, settings: EvalSettings) -> Examination | None:
    """The outcome of an exam that was sat before by the same model, asked the same in the same way."""
    file = results_file(model, task.name, settings.kb)
    if settings.answers or not file.is_file():
        return None
    kept = exam_file.read(file)
    reads = service_of(model) is None and task.kind != "pairs"
    wanted = identity(task, sat_with(task, settings, reads), describe(model, settings.kb))
    return kept if kept.identity == wanted else None
