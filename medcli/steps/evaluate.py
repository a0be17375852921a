"""Let models sit exams: prepare, look for leaks, sit, mark, and keep every answer."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from medcli.core import exam_file
from medcli.core.answers_file import read_answers
from medcli.core.atomic import sha256_of
from medcli.core.choice import mode_of
from medcli.core.errors import UsageError
from medcli.core.exam import OUTCOMES, Item, Marked, Sitting, by_group, means
from medcli.core.exam_file import Examination, Group
from medcli.core.exam_settings import NOT_THE_EXAM, EvalSettings
from medcli.core.journal import Journal, RememberingReader
from medcli.core.report import Report
from medcli.core.units import IN_MARKS
from medcli.steps.candidates import Candidate, describe, note_refusals, open_candidate, open_helper, remembering
from medcli.steps.exam_leak import Leaks, leaks_of, refuse
from medcli.steps.exam_tasks import EXAMS, Task
from medcli.steps.results import examined, results_file, versions

SECTION = "eval"
_CHOSEN = ("choice", "general")  # exams whose answers are chosen, so that --mode matters
_DEPTHS = (1, 2)  # of groups: categories, and subjects within them


def evaluate(
    model: str, tasks: Sequence[Task], settings: EvalSettings, report: Report, candidate: Candidate | None = None
) -> list[Examination]:
    """Let `model` sit the exams; each outcome is written, whole, when that exam is over.

    A `candidate` that is passed in is examined, without one the model is opened here, or the file of answers that
    stands for it. Raises UsageError, DataError, ModelError and ServiceError.
    """
    if settings.kb and settings.answers:
        raise UsageError("--kb has no use for answers that are there already", hint="leave --kb or --answers away")
    leaks = [_leaks(model, task, settings, report) for task in tasks]
    if candidate is None and not settings.answers:
        candidate = open_candidate(model, settings, report)
    helpers = {role: open_helper(ref, settings, report) for role, ref in _helpers(tasks, settings).items()}
    found = []
    for task, leak in zip(tasks, leaks, strict=True):
        sits = candidate or _of_answers(task, settings, report)
        report.note(f"exam: {task.name}, {len(task.paper.items):,} items")
        found.append(_examined(model, task, settings, report, sits, helpers, leak))
    return found


def summed_up(settings: EvalSettings) -> Examination:
    """The outcome of scores that a judge gave elsewhere (`--scores`); nothing is asked and nothing written."""
    if settings.scores is None or settings.exam not in ((), ("dialogue",)):
        raise UsageError("--scores is for the exam dialogue", hint="med eval --exam dialogue --scores FILE")
    exam = EXAMS.get("dialogue")
    marked = exam.from_scores(settings.scores)
    return Examination(
        model=str(settings.scores), exam="dialogue", kind="dialogue", primary=exam.PRIMARY,
        dataset={"name": settings.scores.name, "sha256": sha256_of(settings.scores), "answered": len(marked)},
        settings=asdict(settings), versions=versions(), scores=tuple(exam.scores(marked, settings.seed)),
        groups=(), marked=tuple(marked), file=settings.scores,
    )  # fmt: skip


def identity(task: Task, settings: EvalSettings, described: Mapping[str, Any]) -> str:
    """A hash of all that an outcome follows from: who answers and who helps, items, settings, the version of med."""
    parts = {
        "model": dict(described),
        "helpers": {role: describe(ref) for role, ref in _helpers([task], settings).items()},
        "exam": [task.name, task.kind, _hash_of(task.paper.items)],
        "settings": {name: value for name, value in asdict(settings).items() if name not in NOT_THE_EXAM},
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def sat_with(task: Task, settings: EvalSettings, reader: bool) -> EvalSettings:
    """The settings as the exam is sat with them, by whom can say how likely texts are (`reader`) or cannot."""
    return replace(settings, mode=mode_of(settings, reader)) if task.kind in _CHOSEN else settings


def _leaks(model: str, task: Task, settings: EvalSettings, report: Report) -> Leaks:
    leaks = leaks_of(model, task.paper.items, task.dataset, task.split, report)
    if not settings.allow_leak:
        refuse(leaks, task.name, model)
    return leaks


def _helpers(tasks: Sequence[Task], settings: EvalSettings) -> dict[str, str]:
    """Who helps, by role, as far as an exam that is sat needs them."""
    kinds = {task.kind for task in tasks}
    patient = {"patient": settings.patient} if "dialogue" in kinds else {}
    return patient | ({"judge": settings.judge} if kinds & {"dialogue", "triage"} else {})


def _of_answers(task: Task, settings: EvalSettings, report: Report) -> Candidate:
    assert settings.answers is not None
    answers = read_answers(settings.answers)
    described = {"answers": settings.answers.name, "sha256": sha256_of(settings.answers)}
    return Candidate(speaker=answers.speaker_for(task.paper.items, report), reader=None, described=described)


def _examined(
    model: str,
    task: Task,
    settings: EvalSettings,
    report: Report,
    candidate: Candidate,
    helpers: Mapping[str, Any],
    leaks: Leaks,
) -> Examination:
    settings = sat_with(task, settings, candidate.reader is not None)
    file = results_file(model, task.name, settings.kb)
    key = identity(task, settings, candidate.described)
    with _remembering(file, key, report) as journal:
        patient, judge = (
            remembering(helper, journal, role) if (helper := helpers.get(role)) else None
            for role in ("patient", "judge")
        )
        sitting = Sitting(
            speaker=remembering(candidate.speaker, journal, "candidate"),
            reader=RememberingReader(candidate.reader, journal) if candidate.reader else None,
            rewarder=candidate.rewarder,
            patient=patient,
            judge=judge,
            settings=settings,
            report=report,
        )
        marked = [_with_leak(one, leaks) for one in task.paper.sit(sitting)]
        note_refusals(candidate.speaker, report)
        for outcome in OUTCOMES[1:]:
            if count := sum(one.outcome == outcome for one in marked):
                report.note(f"{count:,} of {len(marked):,} answers are {outcome}")
        report.stage("scoring", total=len(marked), unit="answers")
        found = _outcome(model, task, settings, marked, leaks, file, key)
        exam_file.write(found)
    return found


@contextmanager
def _remembering(file: Path, key: str, report: Report) -> Iterator[Journal]:
    """A journal of answers beside the outcome's file, gone when the outcome is there."""
    with Journal.open(file.with_name(f".{file.stem}.journal.jsonl"), {"identity": key}, report) as journal:
        try:
            yield journal
        except KeyboardInterrupt:
            report.note("stopped: the answers that are there are kept, and the same command goes on from them")
            raise
        journal.remove()


def _outcome(
    model: str, task: Task, settings: EvalSettings, marked: Sequence[Marked], leaks: Leaks, file: Path, key: str
) -> Examination:
    exam = EXAMS.get(task.kind)
    scores = list(exam.scores(marked, settings.seed))
    clean = [one for one in marked if "leaked" not in one.detail]
    if clean and len(clean) < len(marked):
        unleaked = next((score for score in means(clean, settings.seed) if score.metric == exam.PRIMARY), None)
        scores += [replace(unleaked, metric=f"{exam.PRIMARY}-unleaked")] if unleaked else []
    asked = examined(task.dataset, task.split) if task.dataset else {"name": task.name}
    return Examination(
        model=f"{model}+{settings.kb}" if settings.kb else model,
        exam=task.name,
        kind=task.kind,
        primary=exam.PRIMARY,
        dataset=asked | {"items": _hash_of(task.paper.items), "answered": len(marked)},
        settings=asdict(settings),
        versions=versions(),
        scores=tuple(scores),
        groups=tuple(_groups(marked, task.kind, settings.seed)),
        marked=tuple(marked),
        leak=leaks.as_table(),
        file=file,
        identity=key,
    )


def _with_leak(one: Marked, leaks: Leaks) -> Marked:
    found = leaks.items.get(one.item.id)
    return replace(one, detail={**one.detail, "leaked": found}) if found else one


def _groups(marked: Sequence[Marked], kind: str, seed: int) -> Iterator[Group]:
    """The means of each category, and of each subject within it."""
    scores = EXAMS.get(kind).scores if kind == IN_MARKS else means  # marks of 1 are no shares
    for depth in _DEPTHS:
        for names, some in by_group(marked, depth).items():
            yield Group(names=names, scores=tuple(scores(some, seed)))


def _hash_of(items: Sequence[Item]) -> str:
    """A hash of what is asked and wanted, whatever is shown before it."""
    rows = [[item.id, *item.asks, item.reference] for item in items]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()
