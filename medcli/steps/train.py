"""Train a model: look before the first step, carry the run out, leave a folder that explains itself."""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medcli import __version__
from medcli.core import model_ref, run_folder
from medcli.core.chat_template import Segment
from medcli.core.errors import DataError, ModelError, UsageError
from medcli.core.mixture import shares_of
from medcli.core.record import Conversation, Record
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.settings import Resolved, read_toml
from medcli.core.shelf import Shelf
from medcli.core.train_settings import TrainSettings
from medcli.steps import run_card
from medcli.steps.train_data import Source, sources_of, training_records

if TYPE_CHECKING:
    from medcli.engine.encode import Losses
    from medcli.engine.load import Loaded
    from medcli.engine.pack import Examples
    from medcli.engine.trainer import Outcome

METHODS = Shelf("medcli.methods", "training method")
UNTRAINED_LIMIT = 0.05  # a data set in which more samples than this teach nothing is refused
_CHECKED = 3  # samples on which the fast path is compared with the plain one


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that a run needs, and what a person should see before it starts."""

    name: str
    method: ModuleType
    resolved: Resolved[TrainSettings]
    ref: model_ref.ModelRef
    sources: Sequence[Source]
    loaded: "Loaded"
    data: "Examples"
    valid: "Examples | None"
    losses: "Losses"
    sample: Sequence[Segment]
    steps: int
    precision: str

    @property
    def facts(self) -> list[tuple[str, Any]]:
        """The plan in figures."""
        model = self.loaded.model
        share = self.data.trained_tokens / max(self.data.tokens, 1)
        learns = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        return [
            ("base model", self.ref.base),
            ("parameters", f"{model.num_parameters():,}, of which {learns:,} learn"),
            ("chat template", self.loaded.template.name),
            ("records taken", ", ".join(f"{source.dataset.name} {source.count:,}" for source in self.sources)),
            ("samples", len(self.data)),
            ("tokens an epoch", self.data.tokens),
            ("learnt tokens", f"{self.data.trained_tokens:,} ({share:.0%})"),
            ("oldest turns dropped", f"{self.losses.turns_dropped:,} in {self.losses.shortened:,} samples"),
            ("samples left out", f"{self.losses.too_long:,} too long, {self.losses.untrained:,} with nothing to learn"),
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
    sources = sources_of(settings, method.RECORD.__name__.lower(), report)
    ref = model_ref.resolve(settings.model)

    report.stage("loading torch and transformers")
    from medcli.engine import agreement, attention, device, trainer
    from medcli.engine.load import load

    where = device.pick(settings.device)
    precision = trainer.precision_of(settings, where)
    device.seed_all(settings.seed)
    loaded = load(
        ref, device=where, report=report, template=settings.template, merge=True,
        attention=attention.NAME if settings.packing else "sdpa",
    )  # fmt: skip
    total = sum(source.count for source in sources)
    data, losses = _encoded(loaded, training_records(sources, settings), "train", total, settings, report)
    _check_learnable(losses, len(data))
    _check_end(loaded, data)
    if settings.packing:
        agreement.check(loaded, [data[index] for index in range(min(_CHECKED, len(data)))])
    held = chain.from_iterable(source.dataset.records("valid") for source in sources)
    total = min(settings.valid_limit, sum(source.dataset.count("valid") for source in sources))
    valid, _ = _encoded(loaded, islice(held, settings.valid_limit), "valid", total, settings, report)
    loaded = method.prepare(loaded, settings)
    first = next(training_records(sources, settings))
    assert isinstance(first, Conversation)
    return Prepared(
        name=name,
        method=method,
        resolved=resolved,
        ref=ref,
        sources=sources,
        loaded=loaded,
        data=data,
        valid=valid if len(valid) else None,
        losses=losses,
        sample=loaded.template.render(first.messages),
        steps=trainer.steps_of(settings, len(data)),
        precision=precision,
    )


def carry_out(prepared: Prepared, run: RunFolder, report: Report) -> "Outcome":
    """Train in `run`, which must be held; resumes from its last checkpoint when it has one."""
    table = _table(prepared)
    _check_same_data(run, prepared.sources)
    run.write_table(table)
    run.template_file.write_text(prepared.loaded.template.text, "utf-8")
    outcome: Outcome = prepared.method.train(
        prepared.loaded, prepared.data, prepared.valid, prepared.resolved.values, run, report
    )
    table["run"]["status"] = "interrupted" if outcome.interrupted else "finished"
    table["result"] = {
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "tokens": outcome.tokens,
        **{key: value for key, value in outcome.figures.items() if key.endswith("loss")},
    }
    run.write_table(table)
    run_card.draw_losses(run)
    if not outcome.interrupted:
        run_card.write(run, [source.dataset for source in prepared.sources])
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


def _encoded(
    loaded: "Loaded", records: Iterable[Record], split: str, total: int, settings: TrainSettings, report: Report
) -> tuple["Examples", "Losses"]:
    from medcli.engine.encode import Losses, encode_all
    from medcli.engine.pack import Examples

    losses = Losses()
    if total:
        report.stage(f"encoding {split}", total=total, unit="samples")
    examples = encode_all(
        _conversations(records), loaded.template, loaded.tokenizer,
        max_length=min(settings.max_length, loaded.model.config.max_position_embeddings),
        losses=losses, advance=report.advance,
    )  # fmt: skip
    return Examples(examples), losses


def _conversations(records: Any) -> Any:
    record: Record
    for record in records:
        assert isinstance(record, Conversation)  # `sources_of` has seen to it
        yield record


def _check_learnable(losses: "Losses", kept: int) -> None:
    """A sample without a trained token gives loss 0.0, which looks fine; so it is counted and refused."""
    if kept + losses.too_long + losses.untrained == 0:
        raise DataError("the data has no training samples", hint="`med data stats NAME` shows what is in each split")
    if kept == 0:
        raise DataError(
            f"nothing would be learnt: {losses.too_long} samples too long, {losses.untrained} with nothing to learn",
            hint="raise --max-length, or choose the model's template with --template",
        )
    share = losses.untrained / (kept + losses.untrained)
    if share > UNTRAINED_LIMIT:
        raise DataError(
            f"in {share:.0%} of the samples nothing would be learnt",
            hint="look at one with `med data show NAME 1 --tokens MODEL`: is the template the model's own?",
        )


def _check_end(loaded: "Loaded", data: "Examples") -> None:
    """A model that never learns the end of an answer talks on for ever, the commonest complaint of all."""
    example = data[0]
    last = int(example.ids[example.trained][-1])
    if last not in loaded.stops:
        raise ModelError(
            f"the chat template '{loaded.template.name}' ends an answer with "
            f"{loaded.tokenizer.decode([last])!r}, which is no stop word of this model",
            hint="choose the model's template with --template; `med data show NAME 1 --tokens MODEL` shows a sample",
        )


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
        },
        "data": data,
        "plan": {"samples": len(prepared.data), "tokens": prepared.data.tokens, "steps": prepared.steps,
                 "precision": prepared.precision},
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
    }  # fmt: skip
