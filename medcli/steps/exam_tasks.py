"""Which exams are named, and what each asks: nothing of it loads a model."""

from dataclasses import dataclass
from pathlib import Path

from medcli.core.dataset_folder import DatasetFolder, built_names, open_dataset
from medcli.core.errors import UnknownNameError, UsageError
from medcli.core.exam import Paper
from medcli.core.exam_settings import EvalSettings
from medcli.core.report import Report
from medcli.core.shelf import Shelf
from medcli.steps.results import note_part, part_of

EXAMS = Shelf("medcli.exams", "exam")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An exam that was named: `name` is that of its outcome's file, `kind` the plug-in that sets it."""

    name: str
    kind: str
    dataset: DatasetFolder | None = None
    split: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An exam that is ready to be sat."""

    name: str
    kind: str
    paper: Paper
    dataset: DatasetFolder | None
    split: str


def named(settings: EvalSettings) -> list[Named]:
    """The exams that are asked for; raises UsageError for a name that is neither an exam nor a built data set."""
    if settings.exam:
        return [_named(name, settings) for name in settings.exam]
    if settings.dataset is None:
        raise UsageError(
            "no exam is named", hint=f"--exam {','.join(_own())}, or a data set: --exam NAME (`med data list`)"
        )
    return [_of_dataset(settings.dataset, settings)]


def prepare(settings: EvalSettings, report: Report) -> list[Task]:
    """The exams with their questions; raises UsageError and DataError."""
    return [_task(one, settings, report) for one in named(settings)]


def _own() -> list[str]:
    """The exams that bring their own questions."""
    return [name for name in EXAMS.names() if not EXAMS.get(name).KIND]


def _named(name: str, settings: EvalSettings) -> Named:
    if settings.gold:
        return Named(name=name, kind="choice")
    is_exam = name in EXAMS.names()
    if is_exam and settings.dataset is not None:
        return _of_dataset(settings.dataset, settings, name)
    if is_exam and not EXAMS.get(name).KIND:
        return Named(name=name, kind=name)
    if name in built_names() or (not is_exam and Path(name).exists()):
        return _of_dataset(name, settings)
    if is_exam:
        raise UsageError(f"the exam {name} needs a data set", hint=f"--exam {name} --dataset NAME")
    own, built = _own(), built_names()
    hint = f"own exams: {', '.join(own)}; built: {', '.join(built) or 'none'}; `med data build {name}` may build it"
    raise UnknownNameError("exam or built data set", name, [*own, *built], hint=hint)


def _of_dataset(name: str, settings: EvalSettings, kind: str = "") -> Named:
    dataset = open_dataset(name)
    by_kind = {EXAMS.get(exam).KIND: exam for exam in EXAMS.names()}
    exam = kind or by_kind.get(dataset.kind, "generation")  # which says what it needs
    split = part_of(dataset, settings.split)
    title = f"{dataset.name}-{split}" if EXAMS.get(exam).KIND else f"{exam}-{dataset.name}-{split}"
    return Named(name=title, kind=exam, dataset=dataset, split=split)


def _task(one: Named, settings: EvalSettings, report: Report) -> Task:
    paper: Paper = EXAMS.get(one.kind).prepare(settings, one.dataset, one.split)
    if one.dataset:
        note_part(one.dataset, one.split, settings.split, report)
    return Task(name=one.name, kind=one.kind, paper=paper, dataset=one.dataset, split=one.split)
