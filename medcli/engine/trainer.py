"""The supervised loop: transformers' Trainer, with padding-free rows, figures for the report, and whole checkpoints."""

import contextlib
import json
import math
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from medcli.core.atomic import full_disk_said
from medcli.core.errors import ModelError
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import TrainSettings
from medcli.engine import device as devices
from medcli.engine.load import Loaded
from medcli.engine.loss import head_in_loss
from medcli.engine.pack import REAL_TOKENS, Batch, Example, Examples, padded, side_by_side


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: after how many steps of how many, whether a person stopped it, and the last figures."""

    steps: int
    total: int
    interrupted: bool
    seconds: float
    tokens: int
    figures: Mapping[str, float]


class _Trainer(Trainer):
    """Trainer that counts real tokens and whose checkpoints are there whole or not at all."""

    def __init__(self, *arguments: Any, keep: int, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._keep = keep
        self._aside: Path | None = None
        self.tokens = 0

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        tokens = inputs.pop(REAL_TOKENS)
        if self.model.training:
            self.tokens += tokens
        prepared: dict[str, Any] = super()._prepare_inputs(inputs)
        return prepared

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside or self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write aside, then rename; the older checkpoints go only when the new one is in place."""
        home = Path(self.args.output_dir)
        self._aside = home / ".part"
        shutil.rmtree(self._aside, ignore_errors=True)
        try:
            self._aside.mkdir(parents=True)
            with full_disk_said(home):
                super()._save_checkpoint(model, trial)
            for finished in self._aside.glob("checkpoint-*"):
                (finished / "training_args.bin").unlink(missing_ok=True)  # a pickle nobody needs
                shutil.rmtree(home / finished.name, ignore_errors=True)
                finished.replace(home / finished.name)
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)
            self._aside = None
        steps = sorted(home.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        for old in steps[: -self._keep]:
            shutil.rmtree(old)


class _Watch(TrainerCallback):
    """Carries figures to the report and `metrics.jsonl`, and turns Ctrl-C into a checkpoint."""

    def __init__(self, run: RunFolder, report: Report, device: torch.device) -> None:
        self._run, self._report, self._device = run, report, device
        self.trainer: _Trainer
        self.interrupted = False
        self.figures: dict[str, float] = {}
        self._clock, self._counted = time.monotonic(), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._report.stage("training", total=state.max_steps, unit="steps")
        self._clock = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self._report.advance(state.global_step)
        if self.interrupted:
            control.should_save = control.should_training_stop = True
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if self.interrupted:  # a stopped run has its checkpoint already, and nobody waits for a validation
            control.should_save = control.should_evaluate = False
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        if "loss" not in logs and "eval_loss" not in logs:
            return
        names = ("loss", "grad_norm", "learning_rate", "epoch", "eval_loss")
        figures = {name: float(logs[name]) for name in names if name in logs}
        if not all(math.isfinite(value) for value in figures.values()):
            raise ModelError(
                f"step {state.global_step}: the loss is not a number any more",
                hint="lower --lr, use --precision bf16 or fp32 instead of fp16, or go back with --resume",
            )
        if "loss" in logs:
            now, tokens = time.monotonic(), self.trainer.tokens
            figures["tokens_per_second"] = round((tokens - self._counted) / max(now - self._clock, 1e-9), 1)
            figures["memory_gib"] = round(devices.memory_gib(self._device), 3)
            self._clock, self._counted = now, tokens
        self._run.log(state.global_step, figures)
        self.figures |= figures
        self._report.measure(state.global_step, figures)


def train(
    loaded: Loaded, data: Examples, valid: Examples | None, settings: TrainSettings, run: RunFolder, report: Report
) -> Outcome:
    """Train what requires a gradient in `loaded.model`; goes on from the run's last checkpoint when there is one.

    Raises DeviceError when memory does not suffice, ModelError when the loss is no longer a number.
    """
    device = loaded.device
    watch = _Watch(run, report, device)
    trainer = _Trainer(
        model=loaded.model,
        args=_arguments(settings, run, len(data), valid is not None, device),
        train_dataset=data,
        eval_dataset=valid,
        data_collator=_collator(settings, loaded),
        callbacks=[watch],
        keep=settings.keep_checkpoints,
    )
    trainer.remove_callback(PrinterCallback)
    watch.trainer = trainer
    last = run.last_checkpoint()
    run.rewind(json.loads((last / "trainer_state.json").read_text("utf-8"))["global_step"] if last else 0)
    started = time.monotonic()
    head = head_in_loss(_causal_lm(loaded.model)) if settings.packing else contextlib.nullcontext()
    hint = (
        f"try --batch {max(1, settings.batch // 2)} --accumulate {settings.accumulate * 2}, or a smaller --max-length"
    )
    with head, _interrupts(watch), devices.out_of_memory_said(device, hint):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    return Outcome(
        steps=trainer.state.global_step,
        total=trainer.state.max_steps,
        interrupted=watch.interrupted and trainer.state.global_step < trainer.state.max_steps,
        seconds=time.monotonic() - started,
        tokens=trainer.tokens,
        figures=watch.figures,
    )


def steps_of(settings: TrainSettings, samples: int) -> int:
    """How many optimizer steps a run takes on one device."""
    if settings.max_steps:
        return settings.max_steps
    an_epoch = max(1, math.ceil(math.ceil(samples / settings.batch) / settings.accumulate))
    return math.ceil(an_epoch * settings.epochs)


def precision_of(settings: TrainSettings, device: torch.device) -> str:
    """ "fp32", "bf16" or "fp16"; raises ModelError for a precision that the device cannot train in."""
    if settings.precision == "auto":
        return "bf16" if devices.has_bf16(device) else "fp32"
    if settings.precision == "fp16" and device.type == "cpu":
        raise ModelError("fp16 training needs a GPU", hint="use --precision bf16 or fp32")
    return settings.precision


def _arguments(
    settings: TrainSettings, run: RunFolder, samples: int, with_valid: bool, device: torch.device
) -> TrainingArguments:
    precision = precision_of(settings, device)
    saving: dict[str, Any] = {"save_strategy": "epoch"}
    if settings.save_every:
        saving = {"save_strategy": "steps", "save_steps": settings.save_every}
    arguments = TrainingArguments(
        output_dir=str(run.checkpoints),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        eval_strategy="epoch" if with_valid else "no",
        prediction_loss_only=True,
        logging_steps=max(1, steps_of(settings, samples) // 500),
        logging_nan_inf_filter=False,
        seed=settings.seed,
        train_sampling_strategy="sequential" if settings.mix == "concatenate" else "random",
        use_cpu=device.type == "cpu",
        optim="adamw_torch_fused" if device.type in ("cpu", "cuda") else "adamw_torch",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        label_names=["labels"],
        **saving,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # DataParallel would cut rows in two; several GPUs are several processes
    return arguments


def _collator(settings: TrainSettings, loaded: Loaded) -> Any:
    if settings.packing:
        return side_by_side
    pad = loaded.tokenizer.pad_token_id
    fill = pad if pad is not None else loaded.stops[0]

    def pad_rows(examples: Sequence[Example]) -> Batch:
        return padded(examples, fill)

    return pad_rows


def _causal_lm(model: Any) -> Any:
    """The causal language model inside a peft wrapper, or itself."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


@contextlib.contextmanager
def _interrupts(watch: _Watch) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the run after its step with a checkpoint; the second one ends it at once."""

    def stop(number: int, frame: Any) -> None:
        if watch.interrupted:
            raise KeyboardInterrupt
        watch.interrupted = True

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
