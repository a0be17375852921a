"""Measure a reward model on built pairs of answers, and keep every pair with its rewards."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medcli.core import model_ref
from medcli.core.dataset_folder import DatasetFolder, open_dataset
from medcli.core.errors import DataError, ModelError
from medcli.core.record import Message, Preference, message_rows
from medcli.core.report import Report
from medcli.core.rewarder import Rewarder
from medcli.core.score import Score, score_of
from medcli.exams import pairs
from medcli.exams.pairs import Judged
from medcli.steps.results import ExamSettings, check_fit, examined, note_part, part_of, results_file, versions, write


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ExamSettings):
    """What the judging of pairs can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTask:
    """What is to be judged, and where the rewards go."""

    dataset: DatasetFolder
    split: str
    records: tuple[Preference, ...]
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEvaluation:
    """What was found, as `exams.pairs.scores` explains it; the accuracy of each source where there are several."""

    model: str
    dataset: str
    split: str
    scores: tuple[Score, ...]
    sources: tuple[Score, ...]
    pairs: int
    ties: int
    file: Path


def holds_pairs(dataset: str) -> bool:
    """Whether a built data set holds pairs of answers; raises UnknownNameError."""
    return open_dataset(dataset).kind == pairs.KIND


def prepare(model: str, settings: Settings) -> PairTask:
    """What `evaluate` would judge, without loading a model; raises UsageError and DataError."""
    dataset = open_dataset(settings.dataset)
    if dataset.kind != pairs.KIND:
        raise DataError(
            f"the data set '{dataset.name}' holds {dataset.kind}s, and a reward model judges pairs of answers",
            hint="`med data list` shows what each data set holds",
        )
    split = part_of(dataset, settings.split)
    records = tuple(_records(dataset, split, settings))
    if not records:
        raise DataError(
            f"the data set '{dataset.name}' has no pair in {settings.split or 'test or valid'}",
            hint="choose another part with --split, or build the data set from more records",
        )
    return PairTask(
        dataset=dataset, split=split, records=records, file=results_file(model, dataset.name, split)
    )  # fmt: skip


def evaluate(
    model: str, settings: Settings, report: Report, rewarder: Rewarder | None = None
) -> PairEvaluation:  # fmt: skip
    """Let a reward model judge the pairs of a data set; the results file is written last.

    Without a `rewarder` the model is loaded here. Raises UsageError, DataError and ModelError.
    """
    task = prepare(model, settings)
    note_part(task.dataset, task.split, settings.split, report)
    if rewarder is None:
        rewarder, task = _loaded(model, task, settings, report)
    dialogues = [dialogue for record in task.records for dialogue in pairs.dialogues_of(record)]
    report.stage("judging", total=len(dialogues), unit="answers")
    judged = _judged(task.records, rewarder.rewards(dialogues, report.advance))
    evaluation = PairEvaluation(
        model=model,
        dataset=task.dataset.name,
        split=task.split,
        scores=tuple(pairs.scores(judged, settings.seed)),
        sources=tuple(_by_source(judged, settings.seed)),
        pairs=len(judged),
        ties=sum(pair.margin == 0 for pair in judged),
        file=task.file,
    )
    if evaluation.ties:
        report.note(f"{evaluation.ties} of {evaluation.pairs} pairs are ties, and count as half right")
    _write(evaluation, task, settings, judged)
    return evaluation


def _records(dataset: DatasetFolder, split: str, settings: Settings) -> Iterator[Preference]:
    for record in dataset.records(split, settings.limit):
        if not isinstance(record, Preference):
            raise DataError(f"{dataset.file(split)}: the record '{record.id}' is no pair of answers")
        yield _with_system(record, settings.system) if settings.system is not None else record


def _with_system(record: Preference, system: str) -> Preference:
    rest = tuple(message for message in record.prompt if message.role != "system")
    return replace(record, prompt=(Message(role="system", content=system), *rest))


def _loaded(model: str, task: PairTask, settings: Settings, report: Report) -> tuple[Rewarder, PairTask]:
    """The reward model, and what it can read of the task; raises DataError when that is nothing."""
    reference = model_ref.resolve(model)
    check_fit(model, reference, task.dataset)

    from medcli.engine import remote_code
    from medcli.engine.reward_model import open_reward_model

    reference = remote_code.consent(reference) if settings.trust_remote_code else reference
    judge = open_reward_model(reference, device=settings.device, report=report)
    records = tuple(record for record in task.records if all(map(judge.fits, pairs.dialogues_of(record))))
    long = len(task.records) - len(records)
    said = f"{long} of {len(task.records)} pairs are longer than the model reads"
    if not records:
        raise DataError(said, hint="take a reward model with a longer context")
    if long:
        report.note(f"{said}, and are left out")
    return judge, replace(task, records=records)


def _judged(records: Sequence[Preference], rewards: Sequence[float]) -> list[Judged]:
    """The pairs with their rewards; raises ModelError where one is no number."""
    found = []
    for record, chosen, rejected in zip(records, rewards[::2], rewards[1::2], strict=True):
        if not (math.isfinite(chosen) and math.isfinite(rejected)):
            raise ModelError(
                f"the pair '{record.id}' is rewarded with {chosen} and {rejected}",
                hint="the model is broken: look at the losses of its training with med runs show",
            )
        lengths = (len(record.chosen), len(record.rejected))
        found.append(Judged(id=record.id, source=record.source, rewards=(chosen, rejected), lengths=lengths))
    return found


def _by_source(judged: Sequence[Judged], seed: int) -> list[Score]:
    """The accuracy in each source, in the order they come; none where there is one source only."""
    values: dict[str, list[float]] = {}
    for pair in judged:
        values.setdefault(pair.source, []).append(pairs.right(pair.margin))
    return [score_of(source, column, seed) for source, column in values.items()] if len(values) > 1 else []


def _write(evaluation: PairEvaluation, task: PairTask, settings: Settings, judged: Sequence[Judged]) -> None:
    """Everything needed to check the figures or to make them again."""
    table = {
        "model": evaluation.model,
        "dataset": examined(task.dataset, task.split) | {"judged": evaluation.pairs},
        "settings": asdict(settings),
        "versions": versions(),
        "scores": [asdict(score) for score in evaluation.scores],
        "sources": [asdict(score) for score in evaluation.sources],
        "ties": evaluation.ties,
        "pairs": [_row(record, pair) for record, pair in zip(task.records, judged, strict=True)],
    }
    write(task.file, table)


def _row(record: Preference, pair: Judged) -> Mapping[str, Any]:
    return {
        "id": record.id,
        "source": record.source,
        "prompt": message_rows(record.prompt),
        "chosen": record.chosen,
        "rejected": record.rejected,
        "rewards": {"chosen": pair.rewards[0], "rejected": pair.rewards[1]},
        "margin": pair.margin,
    }
