"""Our settings as transformers' TrainingArguments, and what follows from them: precision and number of steps."""

import math
from typing import Any

import torch
from transformers import TrainingArguments

from medcli.core.errors import ModelError
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import TrainSettings
from medcli.engine import device as devices
from medcli.engine import sharding


def steps_of(settings: TrainSettings, samples: int) -> int:
    """How many optimizer steps a run takes."""
    if settings.max_steps:
        return settings.max_steps
    return math.ceil(settings.steps_an_epoch(samples) * settings.epochs)


def precision_of(settings: TrainSettings, device: torch.device) -> str:
    """ "fp32", "bf16" or "fp16"; raises ModelError for a precision that the device cannot train in."""
    if settings.precision == "auto":
        return "bf16" if devices.has_bf16(device) else "fp32"
    if settings.precision == "fp16" and device.type == "cpu":
        raise ModelError("fp16 training needs a GPU", hint="use --precision bf16 or fp32")
    return settings.precision


def _order(settings: TrainSettings) -> str:
    """The order of an epoch, in transformers' words; only padded rows gain by being grouped."""
    if settings.mix == "concatenate":
        return "sequential"
    return "random" if settings.packing else "group_by_length"


def arguments_of(
    settings: TrainSettings,
    run: RunFolder,
    samples: int,
    with_valid: bool,
    device: torch.device,
    kind: type[TrainingArguments] = TrainingArguments,
    **own: Any,
) -> TrainingArguments:
    """The arguments of a run on `samples` samples; checkpoints and validations by epoch unless steps are named.

    `kind` is the class of another trainer's arguments, `own` those that only it knows.
    """
    precision = precision_of(settings, device)
    rhythm: dict[str, Any] = {"save_strategy": "epoch", "eval_strategy": "epoch" if with_valid else "no"}
    if settings.save_every:
        rhythm |= {"save_strategy": "steps", "save_steps": settings.save_every}
    if settings.eval_every and with_valid:
        rhythm |= {"eval_strategy": "steps", "eval_steps": settings.eval_every}
    arguments = kind(
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
        prediction_loss_only=True,
        logging_steps=settings.log_every or max(1, steps_of(settings, samples) // 500),
        logging_nan_inf_filter=False,
        seed=settings.seed,
        train_sampling_strategy=_order(settings),
        use_cpu=device.type == "cpu",
        optim="adamw_torch_fused" if device.type in ("cpu", "cuda") else "adamw_torch",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # they are tables that every process has made alike
        label_names=["labels"],
        **rhythm,
        **own,
        **sharding.arguments(settings),
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # DataParallel would cut rows in two; several GPUs are several processes
    return arguments
