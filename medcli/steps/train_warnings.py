"""Settings that are no error, but under which a run would not do what its owner hopes for: said before it starts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcli.core.alignment_settings import PairSettings, RolloutSettings
from medcli.core.errors import UsageError
from medcli.core.train_settings import TrainSettings

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded

FEW_STEPS = 50  # steps an epoch below which a large batch is worth a word
GOOD_STEPS = 100  # steps an epoch that are proposed instead
# Our defaults, ten times apart, as the best rates of whole models and of adapters are (Schulman et al. 2025, "LoRA
# Without Regret"): who has the one method at the other's rate has most likely taken it over from there.
RATE_OF_WHOLE_MODELS = 2e-5
RATE_OF_ADAPTERS = 2e-4
_RATES_OF = {"lora": "adapters", "full": "whole models", "freeze": "whole models"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a run's settings are measured by.

    `samples` of an epoch, `valid` samples of the validation, optimizer `steps` of the whole run, `processes` that
    share a step, `gpus` of this machine (0 when the run is on a CPU), and the `tuner` that decides what learns.
    """

    samples: int
    valid: int
    steps: int
    processes: int
    gpus: int
    tuner: str


def gpus_for(loaded: "Loaded") -> int:
    """How many GPUs are here that such a run could use; 0 when it runs on a CPU."""
    import torch

    return torch.cuda.device_count() if loaded.device.type == "cuda" else 0


def check(settings: TrainSettings, valid: int) -> None:
    """Raises UsageError for a warm-up in steps, and for a run judged by a loss that no `valid` samples measure.

    Older tools counted the warm-up in steps; of a share of 1.0 transformers would make one step.
    """
    if settings.warmup >= 1:
        raise UsageError(
            f"--warmup {settings.warmup:g} is no share of the steps", hint="--warmup 0.03 rises over the first 3 %"
        )
    judged = [flag for flag, wanted in (("--early-stop", settings.early_stop), ("--best", settings.best)) if wanted]
    if not judged or valid:
        return
    build = "build it with one: med data build … --valid 0.05"
    mend = "raise --valid-limit" if settings.valid_limit == 0 else build
    raise UsageError(
        f"{' and '.join(judged)}: no validation loss to go by, {_why_none(settings)}",
        hint=f"{mend}; or leave out {judged[0]}",
    )


def _why_none(settings: TrainSettings) -> str:
    return "--valid-limit is 0" if settings.valid_limit == 0 else "the data has no validation split"


def warnings_of(settings: TrainSettings, sizes: Sizes) -> list[str]:
    """What a person should know before the first step: what will happen, and what to set instead."""
    return [
        *_of_batch(settings, sizes),
        *_of_rhythm(settings, sizes),
        *_of_validation(settings, sizes),
        *_of_rate(settings, sizes),
        *_of_devices(settings, sizes),
    ]


def _of_batch(settings: TrainSettings, sizes: Sizes) -> Iterator[str]:
    if isinstance(settings, RolloutSettings):
        return  # whose steps learn from answers that are drawn, not from samples
    effective = settings.batch * settings.accumulate * sizes.processes
    forwards = math.ceil(sizes.samples / (settings.batch * sizes.processes))
    an_epoch = max(1, math.ceil(forwards / settings.accumulate))
    wanted = max(1, sizes.samples // (GOOD_STEPS * sizes.processes))
    if an_epoch >= FEW_STEPS or wanted >= settings.batch * settings.accumulate:
        return
    shared = f" × {sizes.processes} processes" if sizes.processes > 1 else ""
    batch = min(settings.batch, wanted)
    accumulate = max(1, wanted // batch)
    made = math.ceil(sizes.samples / (batch * accumulate * sizes.processes))
    yield (
        f"an epoch has only {_steps(an_epoch)}: {effective:,} samples are one step "
        f"(batch {settings.batch} × accumulate {settings.accumulate}{shared}); "
        f"--batch {batch} --accumulate {accumulate} makes about {made:,}"
    )


def _of_rhythm(settings: TrainSettings, sizes: Sizes) -> Iterator[str]:
    steps, often = sizes.steps, max(1, sizes.steps // 10)
    if settings.log_every > steps:
        yield (
            f"--log-every {settings.log_every} is more than the {_steps(steps)} of the run: metrics.jsonl would hold "
            "no line and loss.png could not be drawn; --log-every 0 writes about 500 lines a run"
        )
    if settings.save_every > steps:
        yield (
            f"--save-every {settings.save_every} is more than the {_steps(steps)} of the run: there is no checkpoint "
            f"before the end to go on from; --save-every {often} makes {steps // often}"
        )
    if settings.eval_every > steps and sizes.valid:
        yield (
            f"--eval-every {settings.eval_every} is more than the {_steps(steps)} of the run: the validation loss is "
            f"not measured on the way; --eval-every {often} measures it {steps // often} times"
        )
    if settings.sample_every > steps:
        yield (
            f"--sample-every {settings.sample_every} is more than the {_steps(steps)} of the run: no answer is "
            f"printed on the way; --sample-every {often} prints some {steps // often} times"
        )
    if settings.warmup == 0 and settings.schedule != "constant":
        yield (
            "--warmup 0: the first steps are taken at the full rate, when the optimizer knows least of its gradients; "
            "--warmup 0.03 is usual"
        )


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count:,} steps"


def _of_validation(settings: TrainSettings, sizes: Sizes) -> Iterator[str]:
    if settings.eval_every and not sizes.valid:
        yield f"--eval-every {settings.eval_every} has no effect: {_why_none(settings)}"


def _of_rate(settings: TrainSettings, sizes: Sizes) -> Iterator[str]:
    if isinstance(settings, PairSettings | RolloutSettings):
        return  # their usual rates are others: `alignment_warnings`
    learning = _RATES_OF.get(sizes.tuner)
    rate = settings.learning_rate
    if learning == "adapters" and 0 < rate <= RATE_OF_WHOLE_MODELS:
        yield (
            f"--lr {rate:g} is a rate for training whole models; adapters learn little at it, and are best at about "
            f"ten times that: --lr {RATE_OF_ADAPTERS:g}"
        )
    if learning == "whole models" and rate >= RATE_OF_ADAPTERS:
        yield (
            f"--lr {rate:g} is a rate for adapters; a model of billions of weights forgets at it when its own weights "
            f"learn: --lr {RATE_OF_WHOLE_MODELS:g} is usual"
        )


def _of_devices(settings: TrainSettings, sizes: Sizes) -> Iterator[str]:
    if sizes.gpus > 1 and sizes.processes == 1 and ":" not in settings.device:
        yield f"one of {sizes.gpus} GPUs is used; --devices {sizes.gpus} trains on all of them"
