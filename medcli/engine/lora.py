"""Lay low-rank adapters over a model, and save them."""

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from medcli.core.atomic import folder_aside
from medcli.core.errors import ModelError, nearest
from medcli.engine.load import Loaded

ALL = "all-linear"


def lay_over(
    loaded: Loaded,
    *,
    rank: int,
    alpha: int,
    dropout: float,
    targets: Sequence[str],
    dora: bool,
    rslora: bool,
    init: str,
    half: bool,
) -> Loaded:
    """The model with a new adapter, the only thing that learns; `half` keeps the frozen matrices in bfloat16.

    Raises ModelError, naming the layers there are, when a target matches none.
    """
    _check_targets(loaded.model, targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=ALL if list(targets) == [ALL] else list(targets),
        use_dora=dora,
        use_rslora=rslora,
        init_lora_weights="pissa" if init == "pissa" else True,
    )
    model = get_peft_model(loaded.model, config)
    if half:
        _halve_frozen(model)
    return replace(loaded, model=model)


def save(loaded: Loaded, target: Path) -> None:
    """Write the adapter and the tokenizer, whole or not at all."""
    first = target.with_name("adapter_before_training")
    with folder_aside(target) as aside, warnings.catch_warnings():
        # peft warns of the very thing that the conversion mends.
        warnings.filterwarnings("ignore", message="PiSSA changes the base weights")
        conversion = {"path_initial_model_for_weight_conversion": str(first)} if first.is_dir() else {}
        loaded.model.save_pretrained(str(aside), save_embedding_layers=False, **conversion)
        loaded.tokenizer.save_pretrained(aside)
    shutil.rmtree(first, ignore_errors=True)


def keep_first(loaded: Loaded, target: Path) -> None:
    """Keep a PiSSA adapter as it is before training: `save` needs it to make one for the untouched base weights."""
    config = loaded.model.peft_config["default"]
    config.init_lora_weights = True
    loaded.model.save_pretrained(str(target.with_name("adapter_before_training")), save_embedding_layers=False)
    config.init_lora_weights = "pissa"


def _check_targets(model: nn.Module, targets: Sequence[str]) -> None:
    layers = {name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for target in targets:
        if target != ALL and target not in layers:
            close = nearest(target, layers)
            said = f"did you mean '{close}'?\n" if close else ""
            raise ModelError(
                f"--targets {target}: the model has no such layer", hint=f"{said}layers: {', '.join(sorted(layers))}"
            )


def _halve_frozen(model: nn.Module) -> None:
    """Autocast would cast the frozen matrices to bfloat16 in every step; do it once, with the same rounding."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.endswith("base_layer"):
            module.weight.data = module.weight.data.to(torch.bfloat16)
