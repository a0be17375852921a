"""General knowledge that comes with med: has medical tuning cost a model what every school teaches?"""

from collections.abc import Sequence
from itertools import zip_longest

from medcli.core import choice, general_questions
from medcli.core.choice import ChoicePaper
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import UsageError
from medcli.core.exam import Marked, Paper
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Question
from medcli.core.score import Score

HELP = "120 questions of general knowledge in 10 subjects, none of them medical: what was forgotten"
KIND = ""
PRIMARY = choice.PRIMARY


def prepare(settings: EvalSettings, dataset: DatasetFolder | None, split: str) -> Paper:
    """The shipped questions, subject by turns, so that a limit takes of all; raises UsageError for a data set."""
    if dataset is not None:
        raise UsageError("the exam general has questions of its own", hint="leave --dataset away")
    questions = _by_turns(general_questions.questions())[: settings.limit]
    shown = general_questions.shots()
    if settings.shots > len(shown):
        raise UsageError(f"--shots {settings.shots}: there are {len(shown)} questions to show", hint="lower --shots")
    shots = choice.shots_by_subject(shown, settings.shots) if settings.shots else {}
    return ChoicePaper(questions=questions, shots=shots, settings=settings)


def scores(marked: Sequence[Marked], seed: int) -> list[Score]:
    """See `core.choice.scores`."""
    return choice.scores(marked, seed)


def _by_turns(questions: Sequence[Question]) -> list[Question]:
    subjects: dict[str, list[Question]] = {}
    for question in questions:
        subjects.setdefault(question.subject, []).append(question)
    return [question for turn in zip_longest(*subjects.values()) for question in turn if question is not None]
