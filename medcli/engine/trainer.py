"""The supervised loop: transformers' Trainer, with padding-free rows, figures for the report, and whole checkpoints."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback

from medcli.core.atomic import full_disk_said
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import TrainSettings
from medcli.engine import device as devices
from medcli.engine.loaded import Loaded
from medcli.engine.loss import head_in_loss
from medcli.engine.noise import noise_on_embeddings
from medcli.engine.pack import EXAMPLES, Batch, Example, Samples, flat, padded, side_by_side
from medcli.engine.train_arguments import arguments_of
from medcli.engine.watch import Watch, interrupts

Optimizer = Callable[[nn.Module, type[torch.optim.Optimizer], Mapping[str, Any]], torch.optim.Optimizer]
Before = Callable[[Sequence[Example], bool], None]  # told each batch's examples, and whether they are trained on


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
    """Trainer that counts real tokens and whose checkpoints are there whole or not at all.

    `before` are told the examples of each batch before the model sees it, `before_checkpoint` that one will be written.
    """

    def __init__(
        self,
        *arguments: Any,
        keep: int,
        optimizer: Optimizer | None,
        before: Sequence[Before],
        before_checkpoint: Sequence[Callable[[], None]],
        **keywords: Any,
    ) -> None:
        super().__init__(*arguments, **keywords)
        self._keep, self._make_optimizer, self._before = keep, optimizer, before
        self._before_checkpoint = before_checkpoint
        self._aside: Path | None = None
        self.tokens = 0

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        examples = inputs.pop(EXAMPLES)
        training = bool(self.model.training)
        for tell in self._before:
            tell(examples, training)
        if training:
            self.tokens += sum(len(example.ids) for example in examples)
        prepared: dict[str, Any] = super()._prepare_inputs(inputs)
        return prepared

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self._make_optimizer is not None:
            kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = self._make_optimizer(self.model, kind, arguments)
        made: torch.optim.Optimizer = super().create_optimizer(model)
        return made

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside or self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write aside, then rename; the older checkpoints go only when the new one is in place."""
        for tell in self._before_checkpoint:
            tell()
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


def train(
    loaded: Loaded,
    data: Samples,
    valid: Samples | None,
    settings: TrainSettings,
    run: RunFolder,
    report: Report,
    *,
    optimizer: Optimizer | None = None,
    before: Sequence[Before] = (),
    before_checkpoint: Sequence[Callable[[], None]] = (),
) -> Outcome:
    """Train what requires a gradient in `loaded.model`; goes on from the run's last checkpoint when there is one.

    Raises DeviceError when memory does not suffice, ModelError when the loss is no longer a number.
    """
    device = loaded.device
    with contextlib.ExitStack() as stack:
        if settings.packing:
            stack.enter_context(head_in_loss(loaded.causal_lm))
        if settings.neftune:
            before = [*before, stack.enter_context(noise_on_embeddings(loaded.model, settings))]
        trainer = _Trainer(
            model=loaded.model,
            args=arguments_of(settings, run, len(data), valid is not None, device),
            train_dataset=data,
            eval_dataset=valid,
            data_collator=_collator(settings, loaded),
            keep=settings.keep_checkpoints,
            optimizer=optimizer,
            before=before,
            before_checkpoint=before_checkpoint,
        )
        watch = Watch(run, report, device, lambda: trainer.tokens)
        trainer.add_callback(watch)
        trainer.remove_callback(PrinterCallback)
        last = run.last_checkpoint()
        run.rewind(json.loads((last / "trainer_state.json").read_text("utf-8"))["global_step"] if last else 0)
        started = time.monotonic()
        stack.enter_context(interrupts(watch))
        stack.enter_context(devices.out_of_memory_said(device, _smaller(settings)))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    return Outcome(
        steps=trainer.state.global_step,
        total=trainer.state.max_steps,
        interrupted=watch.interrupted and trainer.state.global_step < trainer.state.max_steps,
        seconds=time.monotonic() - started,
        tokens=trainer.tokens,
        figures=watch.figures,
    )


def _smaller(settings: TrainSettings) -> str:
    half = f"--batch {settings.batch // 2} --accumulate {settings.accumulate * 2}, or " if settings.batch > 1 else ""
    return f"try {half}a smaller --max-length, or --checkpointing"


def _collator(settings: TrainSettings, loaded: Loaded) -> Callable[[Sequence[Example | list[Example]]], Batch]:
    pad = loaded.tokenizer.pad_token_id
    fill = pad if pad is not None else loaded.stops[0]

    def collate(samples: Sequence[Example | list[Example]]) -> Batch:
        examples = flat(samples)
        batch = side_by_side(examples) if settings.packing else padded(examples, fill)
        return {**batch, EXAMPLES: examples}

    return collate
