"""Measure a model on a built data set, and keep every answer with its scores."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from medcli.core import model_ref
from medcli.core.dataset_folder import DatasetFolder, open_dataset
from medcli.core.errors import DataError
from medcli.core.record import Conversation, message_rows
from medcli.core.report import Report
from medcli.core.score import Answer, Score, interval, score_of
from medcli.core.settings import setting
from medcli.core.shelf import Shelf
from medcli.core.speaker import Sampling, Speaker
from medcli.exams import generation
from medcli.exams.generation import Item
from medcli.steps.results import ExamSettings, check_fit, examined, note_part, part_of, results_file, versions, write

SECTION = "eval"
METRICS = Shelf("medcli.metrics", "metric")
PERPLEXITY = "perplexity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ExamSettings):
    """What `med eval` can be told."""

    max_tokens: int = setting(256, help="The longest answer, in tokens.", minimum=1)
    temperature: float = setting(0.0, help="0 takes the likeliest token; more is more varied.", minimum=0)
    top_p: float = setting(1.0, help="Draw from the likeliest tokens that make up this share.", minimum=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be answered, and where the answers go."""

    dataset: DatasetFolder
    split: str
    conversations: tuple[Conversation, ...]
    items: tuple[Item, ...]
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was found: scores from 0 to 1 and perplexity, how many answers, and where they are."""

    model: str
    dataset: str
    split: str
    scores: tuple[Score, ...]
    answers: int
    empty: int
    file: Path


def prepare(model: str, settings: Settings) -> Task:
    """What `evaluate` would answer, without loading a model; raises UsageError and DataError."""
    dataset = open_dataset(settings.dataset)
    if dataset.kind != generation.KIND:
        raise DataError(
            f"the data set '{dataset.name}' holds {dataset.kind}s, and `med eval` needs conversations",
            hint="`med data list` shows what each data set holds",
        )
    split = part_of(dataset, settings.split)
    conversations = tuple(_conversations(dataset, split, settings))
    if not conversations:
        raise DataError(
            f"the data set '{dataset.name}' has no conversation in {settings.split or 'test or valid'}",
            hint="choose another part with --split, or build the data set from more records",
        )
    items = tuple(generation.item_of(conversation) for conversation in conversations)
    file = results_file(model, dataset.name, split)
    return Task(dataset=dataset, split=split, conversations=conversations, items=items, file=file)


def evaluate(model: str, settings: Settings, report: Report, speaker: Speaker | None = None) -> Evaluation:
    """Let `model` answer a data set and score the answers; the results file is written last.

    A `speaker` that is passed in is only asked for text; without one the model is loaded here, and its
    perplexity is measured too. Raises UsageError, DataError and ModelError.
    """
    task = prepare(model, settings)
    note_part(task.dataset, task.split, settings.split, report)
    likelihood: list[Score] = []
    if speaker is None:
        speaker, perplexity = _load(model, task, settings, report)
        likelihood.append(perplexity)
    answers = _answers(speaker, task, settings, report)
    report.stage("scoring", total=len(answers), unit="answers")
    values = measured(answers)
    report.advance(len(answers))
    evaluation = Evaluation(
        model=model,
        dataset=task.dataset.name,
        split=task.split,
        scores=(*_scores(values, settings.seed), *likelihood),
        answers=len(answers),
        empty=sum(not answer.text.strip() for answer in answers),
        file=task.file,
    )
    if evaluation.empty:
        report.note(f"{evaluation.empty} of {evaluation.answers} answers are empty, and score 0")
    _write(evaluation, task, settings, answers, values)
    return evaluation


def measured(answers: Sequence[Answer]) -> dict[str, Sequence[float]]:
    """One value from 0 to 1 per metric and answer."""
    return {
        name: column for metric in generation.METRICS for name, column in METRICS.get(metric).scores(answers).items()
    }


def perplexity_score(value: float, tokens: int, nll: Sequence[float], seed: int) -> Score:
    """Perplexity with an interval as wide as that of the mean nll over conversations.

    `value` weighs every token alike, the mean every conversation: the interval is moved around `value`.
    """
    middle = fmean(nll)
    low, high = (value * math.exp(end - middle) for end in interval(nll, seed))
    return Score(metric=PERPLEXITY, value=value, count=tokens, low=low, high=high)


def _conversations(dataset: DatasetFolder, split: str, settings: Settings) -> Iterator[Conversation]:
    for record in dataset.records(split, settings.limit):
        if not isinstance(record, Conversation):
            raise DataError(f"{dataset.file(split)}: the record '{record.id}' is no conversation")
        yield generation.with_system(record, settings.system) if settings.system is not None else record


def _load(model: str, task: Task, settings: Settings, report: Report) -> tuple[Speaker, Score]:
    """The model as a speaker, and how likely it finds the wanted answers."""
    reference = model_ref.resolve(model)
    check_fit(model, reference, task.dataset)

    from medcli.engine import remote_code
    from medcli.engine.likelihood import perplexity
    from medcli.engine.speaker import open_speaker

    reference = remote_code.consent(reference) if settings.trust_remote_code else reference
    speaker = open_speaker(reference, device=settings.device, report=report)
    value, tokens, nll = perplexity(speaker.loaded, task.conversations, report)
    return speaker, perplexity_score(value, tokens, nll, settings.seed)


def _answers(speaker: Speaker, task: Task, settings: Settings, report: Report) -> list[Answer]:
    sampling = Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
    )
    report.stage("answering", total=len(task.items), unit="conversations")
    texts = speaker.replies([item.prompt for item in task.items], sampling, report.advance)
    return [Answer(text=text, reference=item.reference) for text, item in zip(texts, task.items, strict=True)]


def _scores(values: Mapping[str, Sequence[float]], seed: int) -> list[Score]:
    return [score_of(metric, column, seed) for metric, column in values.items()]


def _write(
    evaluation: Evaluation,
    task: Task,
    settings: Settings,
    answers: Sequence[Answer],
    values: Mapping[str, Sequence[float]],
) -> None:
    """Everything needed to check the figures or to make them again; the same answers give the same bytes."""
    rows = [
        {
            "id": item.id,
            "prompt": message_rows(item.prompt),
            "answer": answer.text,
            "reference": answer.reference,
            "scores": {metric: column[index] for metric, column in values.items()},
        }
        for index, (item, answer) in enumerate(zip(task.items, answers, strict=True))
    ]
    table = {
        "model": evaluation.model,
        "dataset": examined(task.dataset, task.split) | {"answered": evaluation.answers},
        "settings": asdict(settings),
        "versions": versions("jieba"),
        "scores": [asdict(score) for score in evaluation.scores],
        "empty": evaluation.empty,
        "answers": rows,
    }
    write(task.file, table)
