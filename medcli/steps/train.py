"""Train a model: look before the first step, carry the run out, leave a folder that explains itself."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medcli import __version__
from medcli.core import model_ref, run_folder
from medcli.core.chat_template import Segment
from medcli.core.errors import DataError, StorageError, UsageError
from medcli.core.mixture import shares_of
from medcli.core.reading import PROMPTS, Reading, asked_of, last_answer
from medcli.core.record import Conversation, Document, Preference, Record
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.settings import Resolved, read_toml
from medcli.core.shelf import Shelf
from medcli.core.train_settings import Loading, TrainSettings
from medcli.steps import (
    alignment_facts,
    alignment_warnings,
    encoded_cache,
    launch,
    run_card,
    train_samples,
    train_warnings,
)
from medcli.steps.train_data import Source, sources_of, training_records, validation_records

if TYPE_CHECKING:
    from medcli.engine.encode import Losses
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

METHODS = Shelf("medcli.methods", "training method")
_CHECKED = 3  # samples on which the fast path is compared with the plain one
_OF_A_STEP = ("grad_norm", "learning_rate", "epoch", "tokens_per_second", "memory_gib")  # say nothing of the outcome
_SHOWN = 300  # characters of a document shown before a run


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that a run needs, and what a person should see before it starts."""

    name: str
    method: ModuleType
    resolved: Resolved[TrainSettings]
    ref: model_ref.ModelRef
    sources: Sequence[Source]
    loaded: "Loaded"
    data: "Samples"
    valid: "Samples | None"
    losses: "Losses"
    sample: Sequence[Segment]
    steps: int
    precision: str

    @property
    def warnings(self) -> list[str]:
        """What a person should know before the first step."""
        settings = self.resolved.values
        sizes = train_warnings.Sizes(
            samples=len(self.data),
            valid=len(self.valid or ()),
            steps=self.steps,
            processes=settings.devices * settings.nodes,
            gpus=train_warnings.gpus_for(self.loaded),
            tuner={flag: value for flag, value, _ in self.resolved.rows()}.get("tuner", self.name),
        )
        found = alignment_warnings.seen(settings, self.ref, self.loaded, self.data)
        return [*train_warnings.warnings_of(settings, sizes), *alignment_warnings.warnings_of(settings, found)]

    @property
    def facts(self) -> list[tuple[str, Any]]:
        """The plan in figures."""
        model, verb = self.loaded.model, "answer" if self.method.READS == PROMPTS else "learn"
        learns = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        return [
            ("base model", self.ref.base),
            ("parameters", f"{model.num_parameters():,}, of which {learns:,} learn"),
            ("chat template", self.loaded.template.name),
            ("records taken", ", ".join(f"{source.dataset.name} {source.count:,}" for source in self.sources)),
            *train_samples.sizes_of(self.data, self.method.READS, self.resolved.values),
            *alignment_facts.facts_of(self.resolved.values),
            ("oldest turns dropped", f"{self.losses.turns_dropped:,} in {self.losses.shortened:,} samples"),
            (
                "samples left out",
                f"{self.losses.too_long:,} too long, {self.losses.untrained:,} with nothing to {verb}",
            ),
            ("optimizer steps", self.steps),
            ("device, precision", f"{self.loaded.device}, {self.precision}"),
        ]


def settings_of_run(path: Path) -> dict[str, Any]:
    """The settings saved in a run.toml, as a layer below flags and environment; the run's name is not taken over."""
    table = read_toml(path / "run.toml" if path.is_dir() else path)
    if "settings" not in table:
        raise UsageError(f"{path} is no run.toml", hint="name a file runs/<name>/run.toml")
    return {key: value for key, value in table["settings"].items() if key != "run"}


def run_to_resume(method: str, name: str) -> RunFolder:
    """The run called `name`, or the newest of the method's that is not finished; raises UsageError."""
    run = run_folder.named(name) if name else _newest_unfinished(method)
    if not run.exists:
        raise UsageError(f"there is no run '{name}' to resume", hint=f"runs: {', '.join(model_ref.run_names())}")
    if run.table()["run"]["status"] == "finished":
        raise UsageError(f"the run {run.path} is finished", hint=f"talk with it: med chat {run.name}")
    return run


def new_run(method: str, settings: TrainSettings) -> RunFolder:
    """The folder a new run goes to; raises UsageError when a run of the wanted name exists."""
    if settings.run and (run := run_folder.named(settings.run)).exists:
        raise UsageError(f"the run {run.path} exists", hint="go on with --resume, or choose another name with --run")
    names = [Path(share.name).name.partition(".")[0] for share in shares_of(settings.dataset)]
    stem = "-".join([method, *(re.sub(r"[^\w-]+", "-", name) for name in names)])
    return run_folder.named(settings.run or run_folder.free_name(stem))


def prepare(name: str, resolved: Resolved[TrainSettings], report: Report) -> Prepared:
    """Load the model, encode the data, and check that something will be learnt. Writes nothing.

    Raises DataError when nothing or too little would be learnt, ModelError when the model does not do.
    """
    method = METHODS.get(name)
    settings = resolved.values
    encoded_cache.wait_for_first()
    sources = sources_of(settings, method.READS, report)
    held, held_count = validation_records(sources, settings)
    train_warnings.check(settings, held_count)
    ref = model_ref.resolve(settings.model)

    report.stage("loading torch and transformers")
    from medcli.engine import attention, device, remote_code, tracking
    from medcli.engine.load import load
    from medcli.engine.train_arguments import precision_of, steps_of

    ref = remote_code.consent(ref) if settings.trust_remote_code else ref
    tracking.check(settings.track)
    launch.check_installed(settings)
    where = device.own(settings.device)
    if settings.strategy != "ddp" and where.type == "cpu":
        launch.refuse_on_cpu(settings.strategy)
    precision = precision_of(settings, where)
    device.seed_all(settings.seed)
    how = method.loading(settings)
    check_stages(ref, settings, how)
    loaded = load(
        ref, device=where, report=report, template=settings.template,
        or_else=train_samples.template_for(method.READS), merge=not how.trainable,
        trainable=how.trainable and not how.prefix, quant=how.quant,
        attention=attention.NAME if settings.packing else None,
    )  # fmt: skip
    encoded_cache.tell_loaded()
    loaded = replace(loaded, prefix=how.prefix)
    train_samples.check_room(loaded)
    total = sum(source.count for source in sources)
    records = training_records(sources, settings)
    data, losses = train_samples.encoded(loaded, method.READS, records, "train", total, settings, report)
    train_samples.check_learnable(losses, len(data))
    _check_first(loaded, data, method.READS, settings)
    valid, _ = train_samples.encoded(loaded, method.READS, held, "valid", held_count, settings, report)
    train_warnings.check(settings, len(valid))
    loaded = method.prepare(loaded, settings)
    return Prepared(
        name=name,
        method=method,
        resolved=resolved,
        ref=replace(ref, adapters=ref.adapters[:-1]) if how.trainable else ref,
        sources=sources,
        loaded=loaded,
        data=data,
        valid=valid if len(valid) else None,
        losses=losses,
        sample=sample_of(loaded, next(training_records(sources, settings)), method.READS),
        steps=steps_of(settings, len(data)),
        precision=precision,
    )


def _check_first(loaded: "Loaded", data: "Samples", reading: Reading, settings: TrainSettings) -> None:
    """Try the first samples: answers must end as the model can stop, and packed rows be read as each one alone."""
    from medcli.engine import agreement
    from medcli.engine.pack import flat

    first = flat([data[index] for index in range(min(_CHECKED, len(data)))])[:_CHECKED]
    if reading == PROMPTS:  # of which nothing is learnt, but all can be compared
        first = [replace(example, trained=example.ids == example.ids) for example in first]
    if reading.has_answers:
        train_samples.check_end(loaded, first[0])
    if settings.packing:
        agreement.check(loaded, first)


def sample_of(loaded: "Loaded", record: Record, reading: Reading) -> list[Segment]:
    """One record as the model will see it."""
    if isinstance(record, Document):
        text = record.text if len(record.text) <= _SHOWN else f"{record.text[:_SHOWN]}…"
        return [Segment(text=text + loaded.tokenizer.eos_token, trained=True)]
    if reading == PROMPTS and (asked := asked_of(record)):
        return loaded.template.render(asked.messages, ask=True)
    if isinstance(record, Preference):
        sides = [last_answer(loaded.template, record.prompt, answer) for answer in (record.chosen, record.rejected)]
        return [*sides[0], Segment(text="\n\n", trained=False), *sides[1]]
    assert isinstance(record, Conversation)  # `sources_of` has seen to it
    return loaded.template.taught(record.messages)


def check_stages(ref: model_ref.ModelRef, settings: TrainSettings, how: Loading) -> None:
    """What cannot be stacked as asked for is said before anything is loaded."""
    if how.trainable and not ref.adapters:
        raise UsageError(
            f"--continue: {settings.model} has no adapter to go on with", hint="leave out --continue, or name a run"
        )
    if how.quant != "none" and len(ref.adapters) > how.trainable:
        other = "\nor go on with its adapter: --continue" if len(ref.adapters) == 1 else ""
        raise UsageError(
            f"{settings.model} would be merged into weights of few bits, and lose by it",
            hint=f"merge it in full precision first: med merge {settings.model}; "
            f"then --model {settings.model}/merged{other}",
        )


def carry_out(prepared: Prepared, run: RunFolder, report: Report) -> "Outcome":
    """Train in `run`, which must be held; resumes from its last checkpoint when it has one."""
    if not launch.is_first():
        return _trained(prepared, run, report)
    table = _table(prepared)
    table["origins"] = _first_origins(table["origins"], run)
    _check_same_data(run, prepared.sources)
    run.write_table(table)
    run.template_file.write_text(prepared.loaded.template.text, "utf-8")
    outcome = _trained(prepared, run, report)
    table["run"]["status"] = "interrupted" if outcome.interrupted else "finished"
    table["result"] = {
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "tokens": outcome.tokens,
        **{key: value for key, value in outcome.figures.items() if key not in _OF_A_STEP},
        **outcome.facts,
    }
    run.write_table(table)
    run_card.draw_losses(run)
    if not outcome.interrupted:
        run_card.write(run, [source.dataset for source in prepared.sources])
    return outcome


def _trained(prepared: Prepared, run: RunFolder, report: Report) -> "Outcome":
    settings = prepared.resolved.values
    try:
        outcome: Outcome = prepared.method.train(prepared.loaded, prepared.data, prepared.valid, settings, run, report)
    except StorageError as error:
        last = run.last_checkpoint()
        kept = f"{last.name} is whole: " if last else ""
        raise StorageError(
            error.message,
            hint=f"{kept}free some room, then med train {prepared.name} --resume --run {run.name}\n"
            "--keep-checkpoints 1 takes the least room, MED_RUNS moves the runs to another disk",
        ) from error
    return outcome


def _check_same_data(run: RunFolder, sources: Sequence[Source]) -> None:
    """A resumed run must go on with the data it began with, or its steps mean nothing."""
    before = run.table()["data"] if run.exists else {}
    for source in sources:
        name = source.dataset.name
        if before and {key: before.get(name, {}).get(key) for key in ("sha256", "records")} != _taken(source):
            raise DataError(
                f"the data set '{name}' is not the one that the run {run.path} began with",
                hint="build it as it was, or start a new run: leave out --resume",
            )


def _first_origins(origins: dict[str, str], run: RunFolder) -> dict[str, str]:
    """Where a resumed run's settings were from when it began; what comes from its own run.toml says no more."""
    before = run.table()["origins"] if run.exists else {}
    return {
        name: before.get(name, origin) if origin == f"run {run.name}" else origin for name, origin in origins.items()
    }


def _taken(source: Source) -> dict[str, Any]:
    """What of a set was trained on, as run.toml says it."""
    return {"sha256": source.dataset.sha256("train"), "records": source.count}


def _newest_unfinished(method: str) -> RunFolder:
    runs = [run_folder.named(name) for name in model_ref.run_names()]
    open_runs = [
        run for run in runs if (table := run.table()["run"])["method"] == method and table["status"] != "finished"
    ]
    if not open_runs:
        raise UsageError("no run is waiting to be resumed", hint="name one with --run")
    return max(open_runs, key=lambda run: run.settings_file.stat().st_mtime)


def _table(prepared: Prepared) -> dict[str, Any]:
    rows = prepared.resolved.rows()
    base = prepared.ref.base
    data = {source.dataset.name: {"path": str(source.dataset.path), **_taken(source)} for source in prepared.sources}
    return {
        "run": {
            "method": prepared.name,
            "status": "running",
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "med": __version__,
        },
        "settings": {name: value for name, value, _ in rows},
        "origins": {name: origin for name, _, origin in rows},
        "model": {
            "base": str(Path(base).resolve()) if Path(base).is_dir() else base,
            "adapters": [str(adapter.resolve()) for adapter in prepared.ref.adapters],
            "template": prepared.loaded.template.name,
            "code": prepared.ref.code,
        },
        "data": data,
        "plan": {"samples": len(prepared.data), "tokens": prepared.data.tokens, "steps": prepared.steps,
                 "precision": prepared.precision},
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
    }  # fmt: skip
