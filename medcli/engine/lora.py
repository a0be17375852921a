"""Lay low-rank adapters over a model, and save them."""

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from transformers.pytorch_utils import Conv1D

from medcli.core import world as worlds
from medcli.core.atomic import folder_aside
from medcli.core.errors import ModelError, nearest
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.tuner_settings import LoraSettings
from medcli.engine import trainer
from medcli.engine.loaded import Loaded
from medcli.engine.objective import Objective
from medcli.engine.pack import Samples
from medcli.engine.stages import false_alarms_off
from medcli.engine.train_arguments import precision_of
from medcli.engine.trainer import Outcome

ALL = "all-linear"


def prepare(loaded: Loaded, settings: LoraSettings, task: str = "CAUSAL_LM", whole: Sequence[str] = ()) -> Loaded:
    """The model with an adapter, the only thing that learns: a new one, or the last stage's.

    `task` is what peft calls the model's; `whole` are modules that learn beside the adapters and are saved whole.

    Raises ModelError, naming the layers there are, when a target matches none.
    """
    model = loaded.model if settings.continue_run else _with_adapter(loaded, settings, task, whole)
    exact = any(config.use_dora for config in model.peft_config.values())  # DoRA needs the frozen weights' exact norms
    if precision_of(settings, loaded.device) == "bf16" and not exact:
        _halve_frozen(model)
    return replace(loaded, model=model)


def train(
    adapted: Loaded,
    data: Samples,
    valid: Samples | None,
    settings: LoraSettings,
    run: RunFolder,
    report: Report,
    objective: Objective | None = None,
) -> Outcome:
    """Train what `prepare` laid over the model, and save it to `run.adapter` unless a person stopped the run."""
    if settings.init == "pissa" and not settings.continue_run and worlds.current().is_first:
        _keep_first(adapted, run.adapter)
    outcome = trainer.train(
        adapted, data, valid, settings, run, report, optimizer=optimizer_of(settings), objective=objective
    )
    if outcome.is_saved_here:
        save(adapted, run.adapter)
    return outcome


def _with_adapter(loaded: Loaded, settings: LoraSettings, task: str, whole: Sequence[str]) -> Any:
    _check_targets(loaded.model, "--targets", settings.targets, (nn.Linear, Conv1D))
    _check_targets(loaded.model, "--modules-to-save", settings.modules_to_save, (nn.Module,))
    config = LoraConfig(
        task_type=task,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=ALL if list(settings.targets) == [ALL] else list(settings.targets),
        modules_to_save=[*settings.modules_to_save, *whole] or None,
        ensure_weight_tying=bool(settings.modules_to_save) and loaded.model.config.tie_word_embeddings,
        use_dora=settings.dora,
        use_rslora=settings.rslora,
        init_lora_weights="pissa" if settings.init == "pissa" else True,
    )
    try:
        with false_alarms_off():
            return get_peft_model(loaded.model, config)
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"such an adapter does not fit {type(loaded.model).__name__}: {str(error).splitlines()[0]}",
            hint="experts that are one tensor take plain LoRA alone: leave out --dropout, --dora and --init pissa,\n"
            "or give adapters to the attention's layers only, with --targets q_proj,k_proj,v_proj,o_proj",
        ) from error


def optimizer_of(settings: LoraSettings) -> trainer.Optimizer | None:
    """LoRA+ (Hayou et al. 2024): the B matrices learn `rate_ratio` times as fast as the A matrices."""
    if settings.rate_ratio == 1:
        return None

    def make(model: Any, kind: type[torch.optim.Optimizer], arguments: Mapping[str, Any]) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = create_loraplus_optimizer(
            model,
            kind,
            loraplus_lr_ratio=settings.rate_ratio,
            loraplus_weight_decay=settings.weight_decay,
            **arguments,
        )
        return made

    return make


def save(loaded: Loaded, target: Path) -> None:
    """Write the adapter and the tokenizer, whole or not at all."""
    first = target.with_name("adapter_before_training")
    with folder_aside(target) as aside, warnings.catch_warnings():
        # peft warns of the very thing that the conversion mends.
        warnings.filterwarnings("ignore", message="PiSSA changes the base weights")
        conversion = {"path_initial_model_for_weight_conversion": str(first)} if first.is_dir() else {}
        loaded.model.save_pretrained(
            str(aside), save_embedding_layers=False, selected_adapters=["default"], **conversion
        )
        loaded.tokenizer.save_pretrained(aside)
    shutil.rmtree(first, ignore_errors=True)


def _keep_first(loaded: Loaded, target: Path) -> None:
    """Keep a PiSSA adapter as it is before training: `_save` needs it to make one for the untouched base weights."""
    config = loaded.model.peft_config["default"]
    config.init_lora_weights = True
    loaded.model.save_pretrained(str(target.with_name("adapter_before_training")), save_embedding_layers=False)
    config.init_lora_weights = "pissa"


def _check_targets(model: nn.Module, flag: str, targets: Sequence[str], kinds: tuple[type[nn.Module], ...]) -> None:
    layers = {name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, kinds)}
    layers = {name for name in layers if name and not name.isdigit()}
    for target in targets:
        if target != ALL and target not in layers:
            close = nearest(target, layers)
            said = f"did you mean '{close}'?\n" if close else ""
            raise ModelError(
                f"{flag} {target}: the model has no such layer", hint=f"{said}layers: {', '.join(sorted(layers))}"
            )


def _halve_frozen(model: nn.Module) -> None:
    """Autocast would cast the frozen matrices to bfloat16 in every step; do it once, with the same rounding."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.endswith("base_layer") and module.weight.dtype == torch.float32:
            module.weight.data = module.weight.data.to(torch.bfloat16)
