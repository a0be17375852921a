"""Train some of a model's own layers: choose them, and save what they learnt."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from medcli.core.atomic import folder_aside
from medcli.core.errors import ModelError
from medcli.core.model_ref import TENSORS_CONFIG
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.tuner_settings import FreezeSettings
from medcli.engine import trainer, trunk_cache
from medcli.engine.loaded import Loaded
from medcli.engine.pack import Samples
from medcli.engine.tensors import TENSORS
from medcli.engine.train_arguments import precision_of
from medcli.engine.trainer import Outcome

_NAMES = {"attention": ("attn", "attention"), "mlp": ("mlp", "feed_forward", "ffn", "moe")}


def prepare(loaded: Loaded, settings: FreezeSettings) -> Loaded:
    """The model with nothing but the chosen layers learning, those in float32; raises ModelError when none fits.

    In bfloat16 training the frozen matrices are rounded to it here, once. Autocast rounds them alike in every step, so
    the training is the same; what is saved holds none of them, and the head keeps its precision.
    """
    blocks = decoder_blocks(loaded.model)
    loaded.model.requires_grad_(False)
    for number in settings.chosen(len(blocks)):
        for part in _parts(blocks[number], settings.parts):
            part.requires_grad_(True).float()
    if precision_of(settings, loaded.device) == "bf16":
        _halve_frozen(blocks)
    return loaded


def train(
    thawed: Loaded, data: Samples, valid: Samples | None, settings: FreezeSettings, run: RunFolder, report: Report
) -> Outcome:
    """Train the chosen layers, and save their tensors to `run.adapter` unless a person stopped the run."""
    with trunk_cache.remembered(thawed, list(decoder_blocks(thawed.model)), data, settings, report) as hooks:
        outcome = trainer.train(
            thawed, data, valid, settings, run, report, before=hooks.batch, before_checkpoint=hooks.checkpoint
        )
    if outcome.is_saved_here:
        _save(thawed, run.adapter)
    return outcome


def decoder_blocks(model: Any) -> nn.ModuleList:
    """The model's layers, in order: the one list as long as its config says; raises ModelError when there is none."""
    count = model.config.get_text_config().num_hidden_layers
    for module in model.get_decoder().modules():  # not those of a part that sees or hears
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelError(f"{type(model).__name__}: no list of {count} layers was found", hint="train it with lora")


def _parts(block: nn.Module, wanted: str) -> list[nn.Module]:
    if wanted == "all":
        return [block]
    names = [name for name, _ in block.named_children()]
    found = [name for name in names if any(key in name for key in _NAMES[wanted]) and "norm" not in name]
    if not found:
        raise ModelError(
            f"--parts {wanted}: a layer of this model has no such part", hint=f"its parts: {', '.join(names)}"
        )
    return [block.get_submodule(name) for name in found]


def _halve_frozen(blocks: nn.ModuleList) -> None:
    for module in blocks.modules():
        if isinstance(module, nn.Linear) and not module.weight.requires_grad and module.weight.dtype == torch.float32:
            module.weight.data = module.weight.data.to(torch.bfloat16)


def _save(loaded: Loaded, target: Path) -> None:
    """Write the trained tensors, as they were stored, and the tokenizer, whole or not at all."""
    weights = loaded.model.named_parameters()
    tensors = {name: w.detach().to(loaded.stored).contiguous() for name, w in weights if w.requires_grad}
    with folder_aside(target) as aside:
        save_file(tensors, aside / TENSORS, metadata={"format": "pt"})
        config = {"base_model_name_or_path": loaded.base, "tensors": sorted(tensors)}
        (aside / TENSORS_CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        loaded.tokenizer.save_pretrained(aside)
