"""The main job, end to end, on what ships with `med`: data, base model, LoRA, judgement, merge, an answer."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medcli.core import run_folder
from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.exam_settings import EvalSettings
from medcli.core.interruption import interruption_by
from medcli.core.model_ref import TINY, ModelRef, resolve
from medcli.core.record import Conversation, Message
from medcli.core.report import Report
from medcli.core.score import Score
from medcli.core.settings import Layers, Resolved, setting
from medcli.core.settings import resolve as resolve_settings
from medcli.core.speaker import Sampling
from medcli.core.train_settings import TrainSettings
from medcli.steps import build_data, evaluate, exam_tasks, merge, train

DATASET = "knowledge"
LONGEST_ANSWER = 80  # tokens; the table's longest answer has fewer
# For learning 504 facts, and what is none of them, in a minute; for a real model start from the defaults.
LORA = {
    "rank": 32,
    "alpha": 64,
    "learning_rate": 5e-3,
    "schedule": "linear",
    "warmup": 0.05,
    "epochs": 2.0,
    "batch": 32,
    "max_length": 256,
    "keep_checkpoints": 1,
    "valid_limit": 100,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `med quickstart` can be told."""

    limit: int | None = setting(
        None, help="Ask only so many questions before and after, not all; with --full a rehearsal.", minimum=1
    )
    full: bool = setting(False, help="All stages: pt, lora, rm, ppo and dpo, each examined; under ten minutes.")
    seed: int = setting(42, help="Seed of the run.", minimum=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """The share of exact answers, and the file that holds them."""

    exact: Score
    answers: Path


@dataclass(slots=True, kw_only=True)
class Tour:
    """What the tour found: seconds of each part, the share of exact answers before and after, an answer."""

    seconds: dict[str, float] = field(default_factory=dict)
    before: Score | None = None
    after: Score | None = None
    run: Path = Path()
    merged: Path = Path()
    question: str = ""
    answer: str = ""
    peak_gib: float = 0.0


@contextmanager
def part(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Measure the seconds of a part of a tour."""
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def quickstart(settings: Settings, report: Report, watch: Callable[[str], None] = lambda line: None) -> Tour:
    """Take the whole tour in this project's `data/` and `runs/`; `watch` hears what each part found."""
    tour = Tour()
    with part(tour.seconds, "data"):
        data = build_data.build(DATASET, BuildSettings(), report=report)
    counts = data.manifest["counts"]
    watch(f"data      {counts['train']:,} questions to learn from, {counts['test']:,} in phrasings never trained on")
    with part(tour.seconds, "base model"):
        make_base(report)
    with part(tour.seconds, "exam of the base"):
        tour.before = exam(TINY, settings, report).exact
    watch(f"base      {percent(tour.before)} exact answers")
    with part(tour.seconds, "LoRA"):
        named = {"dataset": (DATASET,), "run": run_folder.free_name("quickstart"), "seed": settings.seed}
        run = trained("lora", {**LORA, **named}, report)
    tour.run = run.path
    with part(tour.seconds, "exam of the run"):
        tour.after = exam(str(run.path), settings, report).exact
    watch(f"LoRA      {percent(tour.after)} exact answers")
    with part(tour.seconds, "merge"):
        tour.merged = merge.merge(str(run.path), merge.Settings(), report).path
    watch(f"merge     {tour.merged}: greedy answers equal to the adapter's")
    with part(tour.seconds, "one answer"):
        tour.question, tour.answer = ask(tour.merged, data, report)
    tour.peak_gib = peak_gib()
    return tour


def make_base(report: Report) -> None:
    """Make med-tiny when it is not there."""
    report.stage("loading torch and transformers")
    from medcli.engine import tiny

    tiny.ensure(report)


def exam(model: str, settings: Settings, report: Report) -> Examined:
    """The share of exactly right answers on phrasings never trained on."""
    asked = EvalSettings(
        exam=(DATASET,), split="test", limit=settings.limit, max_tokens=LONGEST_ANSWER,
        allow_leak=True,  # phrasings of one grammar are alike on purpose
    )  # fmt: skip
    (found,) = evaluate.evaluate(model, exam_tasks.prepare(asked, report), asked, report)
    return Examined(exact=found.score("exact"), answers=found.file)


def trained(method: str, flags: Mapping[str, Any], report: Report) -> run_folder.RunFolder:
    """A finished run of `method`, as its command would make it; Ctrl-C ends the tour."""
    settings = train.METHODS.get(method).Settings
    resolved: Resolved[TrainSettings] = resolve_settings(settings, f"train.{method}", Layers(flags=flags))
    run = train.new_run(method, resolved.values)
    with run.held():
        outcome = train.carry_out(train.prepare(method, resolved, report), run, report)
    if outcome.interrupted:
        raise interruption_by(outcome.interrupted_by)
    return run


def ask(model: Path, data: DatasetFolder, report: Report) -> tuple[str, str]:
    """The first question of the exam, and the model's answer."""
    from medcli.engine.speaker import open_speaker

    record = next(iter(data.records("test")))
    assert isinstance(record, Conversation)
    question = record.messages[0].content
    reference: ModelRef = resolve(str(model))
    speaker = open_speaker(reference, device="auto", report=report)
    asked = [Message(role="user", content=question)]
    return question, "".join(speaker.reply(asked, Sampling(max_tokens=LONGEST_ANSWER)))


def peak_gib() -> float:
    """The most memory this process held, from the kernel's own account."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def percent(score: Score) -> str:
    """A share as people read it, with its interval."""
    return f"{score.value:.1%} ({score.low:.1%} – {score.high:.1%}, n = {score.count})"
