"""What a training run would take, without its weights: exact tokens and steps, memory, hours, and whether it fits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from medcli.core import gpus, model_ref
from medcli.core.alignment_settings import PpoSettings, RolloutSettings
from medcli.core.reading import Reading
from medcli.core.report import Report, Silent
from medcli.core.settings import Resolved
from medcli.core.train_settings import TrainSettings
from medcli.core.tuner_settings import LoraSettings
from medcli.steps import plan_estimate, train_samples, train_warnings
from medcli.steps.train import METHODS, Prepared, check_stages, sample_of
from medcli.steps.train_data import sources_of, training_records, validation_records

if TYPE_CHECKING:
    import torch

    from medcli.engine.estimate import Estimate, Range, Target
    from medcli.engine.outline import Outline
    from medcli.engine.pack import Example

FITS, MAY_FIT, TOO_BIG = "fits", "may not fit", "does not fit"
_SHORT, _SHORT_ANSWER = 256, 64  # tokens; samples and answers are not advised to be cut below


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Flags that would make a run smaller, and the bytes it then takes at most."""

    flags: str
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run as it would be prepared (its model has no weights), and what it takes.

    `available` are bytes on the device called `where`. `hours` is None, and `speed` says why, when nothing is known of
    the device but its memory. `changes` are what helps when it does not surely fit, most first. `of_lora` is the memory
    of a policy as a multiple of what LoRA takes to learn the same rows by imitation; 0 where nothing is compared.
    """

    prepared: Prepared
    where: str
    estimate: "Estimate"
    available: float
    hours: "Range | None"
    speed: str
    changes: Sequence[Change]
    of_lora: float = 0.0

    @property
    def facts(self) -> list[tuple[str, Any]]:
        """The plan in figures."""
        compared = [("memory, of LoRA's", f"{self.of_lora:.2f} × on the same rows")] if self.of_lora else []
        where = ("device, precision", f"{self.where}, {self.prepared.precision}")
        return [*self.prepared.facts[:-1], *compared, where]

    @property
    def verdict(self) -> str:
        """Whether the run has the memory it needs."""
        total = self.estimate.total
        return FITS if total.high <= self.available else MAY_FIT if total.expected <= self.available else TOO_BIG


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the run is to take place: a device of this machine, or a card that need not be here."""

    device: "torch.device"
    card: gpus.Card | None

    @property
    def name(self) -> str:
        return self.card.name if self.card else str(self.device)

    @property
    def available(self) -> float:
        """Bytes that a run can have."""
        from medcli.engine import device

        return (self.card.usable if self.card else device.free_gib(self.device)) * 2**30

    def precision(self, settings: TrainSettings) -> str:
        """The precision that `settings` mean there."""
        from medcli.engine.train_arguments import precision_of

        if self.card and settings.precision == "auto":
            return self.card.precision
        return precision_of(settings, self.device)


def plan(name: str, resolved: Resolved[TrainSettings], report: Report, *, gpu: str = "") -> Planned:
    """Encode the data and rehearse a step of the model, of which only configuration and tokenizer are read.

    `gpu` is a card ("RTX 4090") or its memory ("24GB"); "" is the device of the settings. Writes nothing.

    Raises what `train.prepare` raises, and UsageError for an unknown card.
    """
    card = gpus.card_of(gpu) if gpu else None
    report.stage("loading torch and transformers")
    import torch

    from medcli.engine import device, estimate

    place = _Place(device=torch.device("cuda") if card else device.pick(resolved.values.device), card=card)
    target = estimate.target_of(None if card else place.device, place.precision(resolved.values))
    prepared = _prepare(name, resolved, place, report)
    report.stage("rehearsing a step without weights")
    found = plan_estimate.estimated(prepared, target)
    hours, speed = _hours(found, place, target)
    planned = Planned(
        prepared=prepared,
        where=place.name,
        estimate=found,
        available=place.available,
        hours=hours,
        speed=speed,
        changes=(),
        of_lora=_of_lora(prepared, found, place, target),
    )
    return planned if planned.verdict == FITS else replace(planned, changes=_changes(planned, target))


def _prepare(name: str, resolved: Resolved[TrainSettings], place: _Place, report: Report) -> Prepared:
    """As `train.prepare`, but for the weights and what is checked with them."""
    from medcli.engine import remote_code
    from medcli.engine.train_arguments import steps_of

    method, settings = METHODS.get(name), resolved.values
    sources = sources_of(settings, method.READS, report)
    held, held_count = validation_records(sources, settings)
    train_warnings.check(settings, held_count)
    ref = model_ref.resolve(settings.model)
    ref = remote_code.consent(ref) if settings.trust_remote_code else ref
    how = method.loading(settings)
    check_stages(ref, settings, how)
    outlined = replace(
        _outlined(ref, method.READS, settings, place, report, trainable=how.trainable), prefix=how.prefix
    )
    records = training_records(sources, settings)
    total = sum(source.count for source in sources)
    data, losses = train_samples.encoded(outlined, method.READS, records, "train", total, settings, report)
    train_samples.check_learnable(losses, len(data))
    if method.READS.has_answers:
        train_samples.check_end(outlined, _first(data[0]))
    valid, _ = train_samples.encoded(outlined, method.READS, held, "valid", held_count, settings, report)
    train_warnings.check(settings, len(valid))
    precision = place.precision(settings)
    return Prepared(
        name=name,
        method=method,
        resolved=resolved,
        ref=ref,
        sources=sources,
        loaded=method.prepare(outlined, _shapes_only(settings, precision)),
        data=data,
        valid=valid if len(valid) else None,
        losses=losses,
        sample=sample_of(outlined, next(training_records(sources, settings)), method.READS),
        steps=steps_of(settings, len(data)),
        precision=precision,
    )


def _outlined(
    ref: model_ref.ModelRef,
    reading: Reading,
    settings: TrainSettings,
    place: _Place,
    report: Report,
    *,
    trainable: bool = False,
) -> "Outline":
    from medcli.engine import attention
    from medcli.engine.outline import outline

    return outline(
        ref, device=place.device, report=report, template=settings.template,
        or_else=train_samples.template_for(reading), trainable=trainable,
        attention=attention.NAME if settings.packing else None,
    )  # fmt: skip


def _of_lora(prepared: Prepared, found: "Estimate", place: _Place, target: "Target") -> float:
    """A policy's memory over LoRA's, whose model has one adapter and nothing else; 0 for methods that draw nothing.

    What libraries and the device's context take is in neither.
    """
    from medcli.engine import lora, rollout_estimate
    from medcli.engine.pack import Prompts

    settings, data = prepared.resolved.values, prepared.data
    if not isinstance(settings, RolloutSettings) or not isinstance(data, Prompts):
        return 0.0
    outlined = _outlined(prepared.ref, prepared.method.READS, settings, place, Silent())
    same_precision: dict[str, Any] = {"precision": prepared.precision}
    plain = lora.prepare(outlined, replace(settings, **same_precision))
    quant = prepared.method.loading(settings).quant
    other = rollout_estimate.imitating(plain, settings, data, quant=quant, target=target)
    return (found.total.expected - target.overhead.expected) / (other.expected - target.overhead.expected)


def _first(sample: "Example | list[Example]") -> "Example":
    return sample[0] if isinstance(sample, list) else sample


def _shapes_only(settings: TrainSettings, precision: str) -> TrainSettings:
    """The settings with the precision of the planned device; PiSSA has LoRA's shapes, but needs weights to start."""
    changed: dict[str, Any] = {"precision": precision}
    if isinstance(settings, LoraSettings):
        changed["init"] = "default"
    return replace(settings, **changed)


def _hours(found: "Estimate", place: _Place, target: "Target") -> tuple["Range | None", str]:
    """The hours of a run, and by what speed: of its operations, and of what answers that are drawn make pass by."""
    from medcli.engine import estimate

    if place.card is not None and target.precision not in place.card.tflops:
        return None, "of this GPU only the memory is known; name it, as in --gpu 'RTX 4090', for hours"
    if place.card is None:
        speed, shares = estimate.measured_speed(place.device, target.precision), gpus.OF_PRODUCT
        said = f"{speed / 1e12:.3g} TFLOPS, measured on {place.device}"
    else:
        speed, shares = place.card.tflops[target.precision] * 1e12, gpus.OF_DATA_SHEET
        said = f"{speed / 1e12:g} TFLOPS ({target.precision}, {place.card.source})"
    hours, said = estimate.hours(found.operations, speed, shares), f"{shares[0]:.0%} to {shares[-1]:.0%} of {said}"
    if not found.streamed.high:
        return hours, said
    bandwidth = place.card.bandwidth * 1e9 if place.card else estimate.measured_bandwidth(place.device)
    low, _, high = estimate.OF_BANDWIDTH
    drawing = estimate.hours_of_reading(found.streamed, bandwidth)
    return hours + drawing, f"{said}, and answers drawn at {low:.0%} to {high:.0%} of {bandwidth / 1e9:,.0f} GB/s"


def _changes(planned: Planned, target: "Target") -> list[Change]:
    """What would help, the most effective first; all of it together when nothing does by itself."""
    prepared, settings = planned.prepared, planned.prepared.resolved.values

    def needed(fields: dict[str, Any]) -> float:
        return plan_estimate.most(prepared, replace(settings, **fields), target)

    tried = [(Change(flags=flags, bytes=needed(fields)), fields) for flags, fields in _ways(settings, prepared)]
    helps = [(change, fields) for change, fields in tried if change.bytes < planned.estimate.total.high]
    found = sorted((change for change, _ in helps), key=lambda change: change.bytes)
    if len(found) > 1 and found[0].bytes > planned.available:
        fields = dict(chain.from_iterable(fields.items() for _, fields in helps))
        together = Change(flags=" ".join(change.flags for change, _ in helps), bytes=needed(fields))
        found += [together] if together.bytes < found[0].bytes else []
    return found


def _ways(settings: TrainSettings, prepared: Prepared) -> Iterator[tuple[str, dict[str, Any]]]:
    """Flags that make a run smaller, and the settings they are."""
    from medcli.engine import estimate

    named = {flag: value for flag, value, _ in prepared.resolved.rows()}
    if not settings.checkpointing and prepared.loaded.causal_lm.supports_gradient_checkpointing:
        yield "--checkpointing", {"checkpointing": True}
    if settings.batch > 1:
        accumulate = settings.batch * settings.accumulate
        yield f"--batch 1 --accumulate {accumulate}", {"batch": 1, "accumulate": accumulate}
    with_adapters = isinstance(settings, LoraSettings) and named.get("tuner", "lora") == "lora"
    if with_adapters and (named["quant"], named.get("init", "default")) == ("none", "default"):
        yield "--quant 4bit", {"quant": "4bit"}
    if isinstance(settings, RolloutSettings):
        yield from _ways_of_drawing(settings)
        return
    longest = max(len(example.ids) for example in estimate.longest_row(prepared.data, settings))
    if longest > _SHORT:
        yield f"--max-length {longest // 2}", {"max_length": longest // 2}


def _ways_of_drawing(settings: RolloutSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    if settings.max_tokens >= 2 * _SHORT_ANSWER:
        yield f"--max-tokens {settings.max_tokens // 2}", {"max_tokens": settings.max_tokens // 2}
    if isinstance(settings, PpoSettings) and settings.rollouts > settings.batch * settings.accumulate:
        least = settings.batch * settings.accumulate
        yield f"--rollouts {least}", {"rollouts": least}
