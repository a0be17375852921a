"""Every stage of a model's life on what ships with `med`: text, answers, preferences, a policy; each one examined.

The supervised stage ends early on purpose. A model that knows every answer has nothing left to learn from a reward;
this one is right about every other time, as models are that people align.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medcli.core import run_folder
from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.exam_settings import EvalSettings
from medcli.core.model_ref import TINY, resolve
from medcli.core.record import Document, Message, messages_of
from medcli.core.report import Report
from medcli.core.rewarder import Rewarder
from medcli.core.run_folder import RunFolder
from medcli.core.score import Score, score_of
from medcli.makers import preference
from medcli.steps import build_data, evaluate, exam_tasks, make_data, merge, quickstart
from medcli.steps.quickstart import DATASET, LORA, Settings, part, percent

PAIRS, TEXT, OWN = "knowledge-pairs", "knowledge-text", "knowledge-own"
ADAPTER = {key: LORA[key] for key in ("rank", "alpha", "batch", "max_length", "keep_checkpoints", "valid_limit")}
# What each stage is given beside its data; for a real model start from the defaults.
STAGES: Mapping[str, Mapping[str, Any]] = {
    "pt": {"tuner": "full", "learning_rate": 1e-3, "batch": 2, "epochs": 2.0, "keep_checkpoints": 1},
    "lora": {**LORA, "epochs": 1.0},
    "rm": {**ADAPTER, "learning_rate": 1e-3, "schedule": "linear", "warmup": 0.05, "epochs": 3.0},
    "ppo": {
        **ADAPTER,
        "learning_rate": 3e-4,
        "temperature": 0.5,
        "max_tokens": 60,
        "rollouts": 128,
        "max_steps": 35,
        "sample_every": 0,
    },
    "dpo": {**ADAPTER, "learning_rate": 1e-4, "beta": 0.3, "epochs": 2.0},
}
ANSWERS = preference.Settings(name=OWN, samples=1, temperature=0.8, max_tokens=60, limit=3000)  # a split
PAIRS_RIGHT = 0.85  # share of held-out pairs
EXACT_LOST = 0.03  # by which the share of exact answers may fall
REHEARSED = 2  # steps of each stage when only so many questions are asked
DIVERGENCE = 5.0  # from the model before, nat an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a stage was to reach, what it reached, and whether that is enough."""

    stage: str
    wanted: str
    found: str
    met: bool


@dataclass(slots=True, kw_only=True)
class FullTour:
    """What the tour found: seconds of each part, goals, the runs by stage, the merged model and its answer.

    `supervised` is the share of exact answers where ppo and dpo begin.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    supervised: float = 0.0
    goals: list[Goal] = field(default_factory=list)
    runs: dict[str, RunFolder] = field(default_factory=dict)
    merged: Path = Path()
    question: str = ""
    answer: str = ""
    peak_gib: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speaks:
    """A run that was examined: exact answers, and the reward of each answer."""

    run: RunFolder
    exact: Score
    rewards: Sequence[float]


def full_tour(settings: Settings, report: Report, watch: Callable[[str], None] = lambda line: None) -> FullTour:
    """Take the whole tour in this project's `data/` and `runs/`; `watch` hears what each part found."""
    tour = FullTour()

    def stage(method: str, *datasets: str, **flags: Any) -> RunFolder:
        named = {"dataset": datasets, "run": run_folder.free_name(f"tour-{method}"), "seed": settings.seed}
        if settings.limit:
            flags["max_steps"] = REHEARSED
        with part(tour.seconds, method):
            tour.runs[method] = quickstart.trained(method, {**STAGES[method], **named, **flags}, report)
        return tour.runs[method]

    def found(goal: Goal) -> None:
        tour.goals.append(goal)
        reached = f"{goal.stage} reached: {goal.found}"
        watch(reached if goal.met else f"{goal.stage} reached only: {goal.found}; wanted: {goal.wanted}")

    with part(tour.seconds, "data"):
        text, questions, _ = (build_data.build(name, BuildSettings(), report=report) for name in (TEXT, DATASET, PAIRS))
    with part(tour.seconds, "base model"):
        quickstart.make_base(report)
    found(_read(text, str(stage("pt", TEXT, model=TINY).path), report))
    supervised = str(stage("lora", DATASET, model=str(tour.runs["pt"].path)).path)
    with part(tour.seconds, "pairs of its own"):
        _own_pairs(supervised, settings, report)
    judge = str(stage("rm", PAIRS, OWN, model=supervised).path)
    with part(tour.seconds, "exam of the judge"):
        found(_judges(judge, settings, report))
    stage("ppo", DATASET, model=supervised, reward=judge)
    stage("dpo", OWN, model=supervised)
    with part(tour.seconds, "exams"):
        rewarder = _opened(judge, report)
        before, *after = (_examined(tour.runs[name], rewarder, settings, report) for name in ("lora", "ppo", "dpo"))
    tour.supervised = before.exact.value
    watch(f"ppo and dpo begin with lora: {percent(before.exact)} exact answers")
    for name, speaks in zip(("ppo", "dpo"), after, strict=True):
        for goal in _gains(name, before, speaks, settings):
            found(goal)
    with part(tour.seconds, "merge"):
        best = max(after, key=lambda speaks: speaks.exact.value)
        tour.merged = merge.merge(str(best.run.path), merge.Settings(), report).path
    with part(tour.seconds, "one answer"):
        tour.question, tour.answer = quickstart.ask(tour.merged, questions, report)
    tour.peak_gib = quickstart.peak_gib()
    return tour


def _own_pairs(model: str, settings: Settings, report: Report) -> None:
    """The model's own wrong answers against the right ones: a judge that never saw them would be deceived by them.

    What nearly repeats a held-out pair of the other set is left out of both, so that both may be learnt from together.
    """
    wanted = replace(ANSWERS, model=model, limit=settings.limit or ANSWERS.limit, seed=settings.seed)
    make_data.make_preference(DATASET, wanted, BuildSettings(without=(PAIRS,)), report)
    build_data.build(PAIRS, BuildSettings(without=(OWN,)), report=report)


def _read(text: DatasetFolder, run: str, report: Report) -> Goal:
    """Whether paragraphs that were held out are likelier after reading than before."""
    before, after = (_perplexity(model, text, report) for model in (TINY, run))
    return Goal(
        stage="pt",
        wanted="a lower perplexity of held-out text",
        found=f"perplexity of held-out text {before:.2f} → {after:.2f}",
        met=after < before,
    )


def _perplexity(model: str, text: DatasetFolder, report: Report) -> float:
    from medcli.engine import device
    from medcli.engine.encode import encode_documents
    from medcli.engine.likelihood import perplexity_of
    from medcli.engine.load import load
    from medcli.engine.pack import Examples

    loaded = load(resolve(model), device=device.pick("auto"), report=report)
    documents = (record for record in text.records("test") if isinstance(record, Document))
    examples = Examples(encode_documents(documents, loaded.tokenizer, max_length=loaded.context or 1024))
    return perplexity_of(loaded, examples, report, "documents")[0]


def _judges(run: str, settings: Settings, report: Report) -> Goal:
    asked = EvalSettings(exam=(PAIRS,), split="test", limit=settings.limit, allow_leak=True)  # see quickstart.exam
    (found,) = evaluate.evaluate(run, exam_tasks.prepare(asked, report), asked, report)
    accuracy = found.score("accuracy")
    return Goal(
        stage="rm",
        wanted=f"at least {PAIRS_RIGHT:.0%} of held-out pairs right",
        found=f"{percent(accuracy)} of held-out pairs right",
        met=accuracy.value >= PAIRS_RIGHT,
    )


def _opened(judge: str, report: Report) -> Rewarder:
    from medcli.engine.reward_model import open_reward_model

    return open_reward_model(resolve(judge), device="auto", report=report)


def _examined(run: RunFolder, rewarder: Rewarder, settings: Settings, report: Report) -> _Speaks:
    """Exact answers to questions in phrasings never trained on, and what the reward model says of each answer."""
    examined = quickstart.exam(str(run.path), settings, report)
    rows = json.loads(examined.answers.read_text("utf-8"))["answers"]
    dialogues = [[*messages_of(row["prompt"]), Message(role="assistant", content=row["answer"])] for row in rows]
    report.stage("judging", total=len(dialogues), unit="answers")
    return _Speaks(run=run, exact=examined.exact, rewards=rewarder.rewards(dialogues, report.advance))


def _gains(name: str, before: _Speaks, after: _Speaks, settings: Settings) -> list[Goal]:
    """What an aligned run is to reach: a higher reward, and answers that are as right as they were; near where it was.

    How far dpo went is not measured on the way.
    """
    low, high = (score_of("reward", speaks.rewards, settings.seed) for speaks in (before, after))
    kept = before.exact.value - EXACT_LOST
    divergence = after.run.table()["result"].get("kl")
    near = (
        []
        if divergence is None
        else [
            Goal(
                stage=name,
                wanted=f"a KL of at most {DIVERGENCE:g} nat an answer",
                found=f"KL {divergence:.2f} nat an answer",
                met=divergence <= DIVERGENCE,
            )
        ]
    )
    return [
        Goal(
            stage=name,
            wanted="a held-out reward whose interval lies above the one before",
            found=f"held-out reward {_with_interval(low)} → {_with_interval(high)}",
            met=high.low > low.high,
        ),
        Goal(
            stage=name,
            wanted=f"exact answers at least {kept:.1%}",
            found=f"{percent(after.exact)} exact answers",
            met=after.exact.value >= kept,
        ),
        *near,
    ]


def _with_interval(score: Score) -> str:
    return f"{score.value:.2f} ({score.low:.2f} – {score.high:.2f})"
