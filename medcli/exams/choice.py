"""Questions with options, one or several of them right: CMB, CMExam, MLEC-QA, C-Eval, CMMLU, MedQA, MedMCQA, PubMedQA,
and what `med data make kg --forms choice` makes."""

from collections.abc import Mapping, Sequence

from medcli.core import choice
from medcli.core.choice import ChoicePaper
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import DataError, UnknownNameError
from medcli.core.exam import Marked, Paper
from medcli.core.exam_settings import EvalSettings
from medcli.core.gold import gold_paper
from medcli.core.record import Question
from medcli.core.score import Score

HELP = "questions with options A to F, one or several right: accuracy, by subject, calibration"
KIND = "question"
PRIMARY = choice.PRIMARY


def prepare(settings: EvalSettings, dataset: DatasetFolder | None, split: str) -> Paper:
    """The questions of a split, or of a file of right letters alone; raises DataError when there are none."""
    if settings.gold:
        return gold_paper(settings.gold, settings.limit)
    assert dataset is not None
    questions = _of_subjects(_questions(dataset, split), settings.subjects)[: settings.limit]
    if not questions:
        raise DataError(f"{dataset.file(split)} has no question", hint="choose another part with --split")
    shots = _shots(dataset, split, settings.shots) if settings.shots else {}
    return ChoicePaper(questions=questions, shots=shots, settings=settings)


def scores(marked: Sequence[Marked], seed: int) -> list[Score]:
    """See `core.choice.scores`."""
    return choice.scores(marked, seed)


def _shots(dataset: DatasetFolder, split: str, wanted: int) -> Mapping[str, Sequence[Question]]:
    """Questions to show, never of the part examined: from valid, what an exam publishes for this, else from train."""
    for part in ("valid", "train"):
        if part != split and dataset.count(part) >= wanted:
            return choice.shots_by_subject(_questions(dataset, part), wanted)
    raise DataError(
        f"'{dataset.name}' has no {wanted} questions outside of {split} to show before each one",
        hint="use --shots 0, or build the exam with its dev or train part",
    )


def _questions(dataset: DatasetFolder, split: str) -> list[Question]:
    found = []
    for record in dataset.records(split):
        if not isinstance(record, Question):
            raise DataError(f"{dataset.file(split)}: the record '{record.id}' is no question")
        found.append(record)
    return found


def _of_subjects(questions: Sequence[Question], subjects: Sequence[str]) -> Sequence[Question]:
    """The questions of subjects or categories that are named, or all; raises UsageError for a name that none has."""
    if not subjects:
        return questions
    names = [{question.subject, *question.subject.split("/")} for question in questions]
    known = set().union(*names)
    for subject in subjects:
        if subject not in known:
            raise UnknownNameError("subject", subject, known)
    return [question for question, own in zip(questions, names, strict=True) if own & set(subjects)]
