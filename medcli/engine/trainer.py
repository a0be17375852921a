"""The supervised loop: transformers' Trainer, with padding-free rows, figures for the report, and whole checkpoints."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from medcli.core import world as worlds
from medcli.core.errors import StorageError
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import TrainSettings
from medcli.core.tuner_settings import PrefixSettings
from medcli.engine import checkpoints, ranks, sharding
from medcli.engine import device as devices
from medcli.engine.best import Judge, take_best
from medcli.engine.checkpointing import checkpointed
from medcli.engine.checkpoints import WholeCheckpoints
from medcli.engine.dealt import Filled, InOrder
from medcli.engine.halving import Halving
from medcli.engine.length_groups import LengthGroups
from medcli.engine.loaded import Loaded
from medcli.engine.loss import head_in_loss
from medcli.engine.noise import noise_on_embeddings
from medcli.engine.objective import Means, Objective
from medcli.engine.pack import EXAMPLES, NOTHING, Batch, Example, Samples, flat, padded, side_by_side
from medcli.engine.samples import Answers
from medcli.engine.tracking import tracked
from medcli.engine.train_arguments import arguments_of
from medcli.engine.validation import means_of
from medcli.engine.virtual_tokens import load_encoder, save_encoder
from medcli.engine.watch import Watch, interrupts

Optimizer = Callable[[nn.Module, type[torch.optim.Optimizer], Mapping[str, Any]], torch.optim.Optimizer]
Before = Callable[[Sequence[Example], bool], None]  # told each batch's examples, and whether they are trained on

_NOT_SHARED = StorageError(
    "the machines of this run do not see the same checkpoints", hint="put `runs` (MED_RUNS) on a disk that all share"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: after how many steps of how many, whether a person stopped it, and the last figures."""

    steps: int
    total: int
    interrupted_by: int  # the signal, 0 for none
    seconds: float
    tokens: int
    figures: Mapping[str, float]
    facts: Mapping[str, float]  # what else came of it: best_step, best_eval_loss, stopped_early, micro_batch

    @property
    def interrupted(self) -> bool:
        """Whether a person, or a scheduler, stopped the run."""
        return self.interrupted_by != 0

    @property
    def is_saved_here(self) -> bool:
        """Whether this process is to save what was learnt: the first one, when the run came to its end."""
        return not self.interrupted and worlds.current().is_first


class _Trainer(WholeCheckpoints):
    """Trainer that counts real tokens and minimises an objective.

    `before` are told the examples of each batch before the model sees it.
    """

    control: Any

    def __init__(
        self,
        *arguments: Any,
        loaded: Loaded,
        keep: int,
        optimizer: Optimizer | None,
        before: Sequence[Before],
        before_checkpoint: Sequence[Callable[[], None]],
        halving: Halving,
        keep_best: bool,
        objective: Objective | None,
        **keywords: Any,
    ) -> None:
        super().__init__(*arguments, **keywords)
        self.keep, self.keep_best, self.before_checkpoint = keep, keep_best, before_checkpoint
        self.halving, self.objective, self._means = halving, objective, Means()
        self._loaded, self._make_optimizer, self._before = loaded, optimizer, before
        self.tokens = 0

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        examples = inputs.pop(EXAMPLES)
        training = bool(self.model.training)
        for tell in self._before:
            tell(examples, training)
        prepared: dict[str, Any] = super()._prepare_inputs(inputs)
        return prepared

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        self.tokens += sum(len(example.ids) for example in inputs[EXAMPLES] if example is not NOTHING)
        whole = super().training_step
        if self.args.world_size > 1 or num_items_in_batch is None:
            # The other processes would wait for one that begins again; and means of pieces do not add up.
            loss: torch.Tensor = whole(model, inputs, num_items_in_batch)
            return loss
        step = self.state.global_step
        return self.halving.run(step, inputs, model, lambda batch: whole(model, batch, num_items_in_batch))

    def _get_num_items_in_batch(self, batch_samples: Sequence[Batch], device: torch.device) -> Any:
        if self.objective is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        return max(ranks.total(sum(self.objective.count(batch[EXAMPLES]) for batch in batch_samples)), 1)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self.objective is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        part = self.objective.measure(model, inputs)
        self._means.add(part)
        return part.loss / num_items_in_batch * self.args.world_size  # of whose gradients the mean is taken

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, **self._means.taken()} if "loss" in logs else logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        figures = means_of(self, self.eval_dataset, self.objective)
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self._make_optimizer is not None:
            kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = self._make_optimizer(self.model, kind, arguments)
        made: torch.optim.Optimizer = super().create_optimizer(model)
        return made

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        if state_dict is None and (learning := checkpoints.learning_of_frozen(self.model)):
            folder.mkdir(parents=True, exist_ok=True)
            save_file(learning, folder / SAFE_WEIGHTS_NAME)
        else:
            super()._save(output_dir, state_dict)
        save_encoder(self._loaded, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not load_encoder(self._loaded, Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        def epoch() -> int:
            return int(self.state.epoch or 0)

        if self.args.train_sampling_strategy == "group_by_length":
            rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
            return LengthGroups(self.train_dataset, rows, self.args.seed, epoch)
        if isinstance(self.train_dataset, Filled):
            shuffle = self.args.train_sampling_strategy != "sequential"
            return InOrder(self.train_dataset, self.args.seed, epoch, shuffle=shuffle)
        return super()._get_train_sampler(train_dataset)


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
    objective: Objective | None = None,
) -> Outcome:
    """Train what requires a gradient in `loaded.model`; goes on from the run's last checkpoint when there is one.

    Without an `objective` the model's own loss is minimised: the cross-entropy of what is learnt.

    Raises DeviceError when memory does not suffice, ModelError when the loss is no longer a number, PeerLost when
    another process of the run has ended.
    """
    device, world = loaded.device, worlds.current()
    with contextlib.ExitStack() as stack:
        stack.enter_context(ranks.joined(device))
        before = [*before, *_lay_over(loaded, settings, objective, stack)]
        collate = _collator(settings, loaded, objective)
        halving = Halving(collate, settings.batch, run, report, objective.together if objective else 1)
        trainer = _Trainer(
            model=loaded.model,
            args=arguments_of(settings, run, len(data), valid is not None, device),
            train_dataset=Filled(data, settings.batch * world.size) if world.size > 1 else data,
            eval_dataset=valid,
            data_collator=collate,
            loaded=loaded,
            keep=settings.keep_checkpoints,
            optimizer=optimizer,
            before=before,
            before_checkpoint=before_checkpoint,
            halving=halving,
            keep_best=settings.best,
            objective=objective,
        )
        trainer.model_accepts_loss_kwargs |= objective is not None  # then nothing is divided twice
        outcome = carry_out(trainer, loaded, valid, settings, run, report, stack, tokens=lambda: trainer.tokens)
        outcome = replace(outcome, facts={**trainer.halving.figures, **outcome.facts})
        if settings.best and not outcome.interrupted:
            outcome = replace(outcome, facts={**outcome.facts, **take_best(trainer, run.checkpoints, report)})
        if not outcome.interrupted:
            sharding.gather(loaded.model, settings.strategy)
    return outcome


def carry_out(
    trainer: Trainer,
    loaded: Loaded,
    valid: Samples | None,
    settings: TrainSettings,
    run: RunFolder,
    report: Report,
    stack: contextlib.ExitStack,
    *,
    tokens: Callable[[], int],
) -> Outcome:
    """Let a new `trainer` go on from the run's last checkpoint to the end or to Ctrl-C, and watch it meanwhile.

    Signals and memory are seen to until `stack` ends. `tokens` tells how many tokens this process has trained on.
    """
    device, world = loaded.device, worlds.current()
    last, step = _where_to_go_on(run)
    if world.size > 1:
        devices.seed_all(settings.seed + world.rank)  # dropout and noise of its own in each process
    trackers = stack.enter_context(tracked(settings, run, report, step)) if world.is_first else []
    watch = Watch(run, report, device, lambda: ranks.total(tokens()), trackers)
    judge = Judge(settings, report)
    trainer.remove_callback(PrinterCallback)
    asking = [Answers(loaded, valid, settings, run, report)] if settings.sample_every else []
    for callback in (watch, judge, *asking):
        trainer.add_callback(callback)
    started = time.monotonic()
    stack.enter_context(interrupts(watch))
    stack.enter_context(devices.out_of_memory_said(device, _smaller(settings)))
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    steps, total = trainer.state.global_step, trainer.state.max_steps
    return Outcome(
        steps=steps,
        total=total,
        interrupted_by=watch.interrupted_by if steps < total and not judge.stopped_early else 0,
        seconds=time.monotonic() - started,
        tokens=ranks.total(tokens()),
        figures=watch.figures,
        facts=judge.facts,
    )


def _where_to_go_on(run: RunFolder) -> tuple[Path | None, int]:
    """The last checkpoint and its step, the same in all processes; what was logged after it is forgotten."""
    last = run.last_checkpoint()
    step = json.loads((last / "trainer_state.json").read_text("utf-8"))["global_step"] if last else 0
    ranks.agreed(step, _NOT_SHARED)
    if worlds.current().is_first:
        run.rewind(step)
    return last, step


def _lay_over(
    loaded: Loaded, settings: TrainSettings, objective: Objective | None, stack: contextlib.ExitStack
) -> list[Before]:
    """Make the model, until `stack` ends, what the settings ask for; returns who is to be told each batch."""
    if objective is not None:
        stack.enter_context(objective.laid_over())
    elif settings.packing:
        stack.enter_context(head_in_loss(loaded.causal_lm))
    if settings.checkpointing:
        stack.enter_context(checkpointed(loaded))
    return [stack.enter_context(noise_on_embeddings(loaded.model, settings))] if settings.neftune else []


def _smaller(settings: TrainSettings) -> str:
    half = f"--batch {settings.batch // 2} --accumulate {settings.accumulate * 2}, or " if settings.batch > 1 else ""
    last = "a shorter --prefix-length" if isinstance(settings, PrefixSettings) else "--checkpointing"
    return f"try {half}a smaller --max-length, or {last}"


def _collator(
    settings: TrainSettings, loaded: Loaded, objective: Objective | None
) -> Callable[[Sequence[Example | list[Example]]], Batch]:
    def collate(samples: Sequence[Example | list[Example]]) -> Batch:
        examples = flat(samples) or [NOTHING]
        return {
            **(objective.collate(examples) if objective else inputs_of(examples, settings, loaded)),
            EXAMPLES: examples,
        }

    return collate


def inputs_of(examples: Sequence[Example], settings: TrainSettings, loaded: Loaded) -> Batch:
    """What the model reads: a row without padding, or padded rows where the settings want them."""
    pad = loaded.tokenizer.pad_token_id
    return side_by_side(examples) if settings.packing else padded(examples, loaded.stops[0] if pad is None else pad)
