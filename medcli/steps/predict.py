"""Ask a model every prompt of a file, or of a data set, and keep every answer."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from medcli.core.batches import batches
from medcli.core.dataset_folder import DatasetFolder, open_dataset
from medcli.core.errors import DataError, UsageError
from medcli.core.exam_settings import EvalSettings
from medcli.core.loading_settings import SpeakingSettings
from medcli.core.model_ref import TINY
from medcli.core.predictions_file import Form, Job, Outcome, Predictions, finished
from medcli.core.prompts_file import Prompt, prompts_in, read_prompts, with_system
from medcli.core.raw import RawFile
from medcli.core.record import Preference
from medcli.core.report import Report
from medcli.core.sampling_settings import SamplingSettings, sampling_of
from medcli.core.service_ref import service_of
from medcli.core.settings import setting
from medcli.core.speaker import Answering
from medcli.steps.candidates import check_reference, describe
from medcli.steps.exam_tasks import EXAMS
from medcli.steps.grounded import GroundedAnswers, open_library
from medcli.steps.results import note_part, part_of
from medcli.steps.speakers import notice_of, open_speaker, unusual

SECTION = "predict"
PIPE = "-"
# Prompts that are asked together: some batches of a model that is here, so that its places are mostly taken; not more,
# for after a kill it says those of one window again.
WINDOW = 128
_EXAM_OF = {"conversation": "generation", "question": "choice"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(SamplingSettings, SpeakingSettings):
    """What can be set on the command line."""

    input: str | None = setting(None, help="A file of prompts: .jsonl, .json, .csv, .tsv or .txt; - is a pipe.")
    dataset: str | None = setting(None, help="A built data set in place of --input.")
    split: Literal["train", "valid", "test"] | None = setting(
        None, help="The part of it to take; unless given, test, or valid when test is empty."
    )
    limit: int | None = setting(None, help="Take only so many prompts.", minimum=1)
    output: Path = setting(help="The file of answers; the same command goes on with it after a stop.")
    format: Form = setting("messages", help="Everything in JSON Lines, {label, predict} in JSON Lines, or an array.")
    system: str | None = setting(None, help="A system message in place of the prompts' own.")
    kb: str = setting("", help="A knowledge base that answers rest on; `med kb list` shows which there are.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Flags):
    """All settings of `predict`; the model is an argument on the command line, so it is no flag."""

    model: str = setting("", help="The model to ask when the command line names none.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What came of all prompts; `asked` of them were asked now, and their answers' `tokens` took `seconds`."""

    outcome: Outcome
    asked: int
    tokens: int | None
    seconds: float


def predict(
    settings: Settings, report: Report, *, pipe: IO[bytes] | None = None, speaker: Answering | None = None
) -> Predicted:
    """Answer every prompt into `settings.output`; what is there from the same settings is not asked again.

    A `speaker` that is passed in is asked, without one the model is opened here, once all prompts could be read.
    Raises UsageError, DataError, ModelError, ServiceError and StorageError; what is answered until then is kept.
    """
    model = settings.model or TINY
    sampling = sampling_of(settings)
    if speaker is None:
        check_reference(model, [])
    job = Job(
        model=model,
        described=describe(model, settings.kb) | unusual(settings),
        prompts=_prompts(settings, report, pipe),
        sampling=sampling,
        form=settings.format,
        kb=settings.kb,
    )
    if outcome := finished(settings.output, job):
        report.note(f"nothing to do: {settings.output} has all {outcome.rows:,} answers")
        return Predicted(outcome=outcome, asked=0, tokens=0, seconds=0.0)
    with Predictions.open(settings.output, job, report) as predictions, _interruption_said(report):
        asking = _Asking(job, predictions, report)
        if asking.missing:
            report.note(notice_of(model))
            asking.ask(_asked(model, settings, report, speaker), together=service_of(model) is None)
        return asking.done(predictions.finish())


class _Asking:
    """Asks the prompts without an answer, and counts what that brings."""

    def __init__(self, job: Job, predictions: Predictions, report: Report) -> None:
        self.missing = set(predictions.missing())
        self._job, self._predictions, self._report = job, predictions, report
        self._asked, self._seconds = len(self.missing), 0.0
        self._tokens: int | None = 0

    def ask(self, speaker: Answering, *, together: bool) -> None:
        """Answer all that is missing.

        `together`, prompts of a window are asked again with one that is missing: numbers are rounded by what stands
        beside them in a batch, and so each answer is the one of a run that was never stopped.
        """
        self._report.stage("answering", total=self._asked, unit="prompts")
        started = time.monotonic()
        for window in batches(range(len(self._job.prompts)), WINDOW):
            lacking = [number for number in window if number in self.missing]
            if lacking:
                self._ask(speaker, window if together else lacking)
        self._seconds = time.monotonic() - started

    def _ask(self, speaker: Answering, numbers: Sequence[int]) -> None:
        prompts = [self._job.prompts[number].messages for number in numbers]
        with closing(speaker.answers(prompts, [self._job.sampling_of(number) for number in numbers])) as answers:
            for place, answer in answers:
                if numbers[place] not in self.missing:
                    continue
                self._predictions.add(numbers[place], answer)
                self.missing.remove(numbers[place])
                if self._tokens is not None and answer.finish != "refused":
                    self._tokens = None if answer.tokens is None else self._tokens + answer.tokens
                self._report.advance(self._asked - len(self.missing))
                if self.missing.isdisjoint(numbers):
                    return

    def done(self, outcome: Outcome) -> Predicted:
        """What came of it."""
        return Predicted(outcome=outcome, asked=self._asked, tokens=self._tokens, seconds=self._seconds)


@contextmanager
def _interruption_said(report: Report) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        report.note("stopped: the answers that are there are kept, and the same command goes on from them")
        raise


def _prompts(settings: Settings, report: Report, pipe: IO[bytes] | None) -> Sequence[Prompt]:
    """What is to be asked; raises UsageError unless exactly one source is named."""
    if (settings.input is None) == (settings.dataset is None):
        raise UsageError(
            "neither --input nor --dataset is given"
            if settings.input is None
            else "--input and --dataset exclude each other",
            hint="name a file of prompts, --input FILE, or a built data set, --dataset NAME",
        )
    if settings.split and settings.dataset is None:
        raise UsageError("--split needs a data set", hint="name it: --dataset NAME")
    if settings.dataset is not None:
        return list(_of_dataset(open_dataset(settings.dataset), settings, report))
    found = _of_input(str(settings.input), settings.limit, report, pipe)
    return found if settings.system is None else [with_system(prompt, settings.system) for prompt in found]


def _of_input(name: str, limit: int | None, report: Report, pipe: IO[bytes] | None) -> Sequence[Prompt]:
    path = Path(name)
    if name == PIPE:
        if pipe is None:
            raise UsageError("--input - reads a pipe, and there is none", hint="cat FILE | med predict --input - …")
        return _of_pipe(pipe, "stdin", limit, report)
    if path.exists() and not path.is_file() and not path.is_dir():  # such as <(…) of a shell
        with path.open("rb") as file:
            return _of_pipe(file, name, limit, report)
    return prompts_in(path, limit, report)


def _of_pipe(pipe: IO[bytes], name: str, limit: int | None, report: Report) -> Sequence[Prompt]:
    """A pipe is read twice, for its encoding and its rows, and so put into a file that nobody else can read."""
    with tempfile.NamedTemporaryFile(prefix="med-") as file:
        shutil.copyfileobj(pipe, file)
        file.flush()
        return read_prompts(RawFile(path=Path(file.name), name=name, label=name), limit, report)


def _of_dataset(dataset: DatasetFolder, settings: Settings, report: Report) -> Iterator[Prompt]:
    """The prompts of a split, as `med eval` asks them; raises DataError where there is none."""
    split = part_of(dataset, settings.split)
    note_part(dataset, split, settings.split, report)
    if dataset.kind == "preference":
        yield from _of_pairs(dataset, split, settings)
        return
    if dataset.kind not in _EXAM_OF:
        raise DataError(
            f"the data set '{dataset.name}' holds {dataset.kind}s, which ask nothing",
            hint="`med data list` shows what each data set holds",
        )
    exam = EvalSettings(limit=settings.limit, system=settings.system, mode="generate")
    for item in EXAMS.get(_EXAM_OF[dataset.kind]).prepare(exam, dataset, split).items:
        yield Prompt(id=item.id, messages=item.prompt, reference=item.reference)


def _of_pairs(dataset: DatasetFolder, split: str, settings: Settings) -> Iterator[Prompt]:
    count = 0
    for count, record in enumerate(dataset.records(split, settings.limit), 1):  # noqa: B007
        if not isinstance(record, Preference):
            raise DataError(f"{dataset.file(split)}: the record '{record.id}' is no pair")
        prompt = Prompt(id=record.id, messages=record.prompt, reference=record.chosen)
        yield prompt if settings.system is None else with_system(prompt, settings.system)
    if not count:
        raise DataError(f"{dataset.file(split)} has no pair", hint="choose another part with --split")


def _asked(model: str, settings: Settings, report: Report, speaker: Answering | None) -> Answering:
    """Who is asked, with the knowledge base that its answers are to rest on."""
    library = open_library(settings.kb) if settings.kb else None
    speaker = speaker or open_speaker(model, settings, report)
    return GroundedAnswers(speaker, library) if library else speaker
