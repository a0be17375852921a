"""Adapters with random weights for models of a few thousand parameters, and the runs that hold them."""

import json
from copy import deepcopy
from pathlib import Path

import tomlkit
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from medcli.engine.stages import false_alarms_off


@torch.no_grad()
def write(base, target, seed=0, **kind):
    """An adapter that changes all that it can change, and not only a little."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", **deepcopy({"r": 4, "lora_alpha": 6, **kind}))  # peft changes lists
    with false_alarms_off():
        laid = get_peft_model(model, config)
    chance = torch.Generator().manual_seed(seed)
    for weight in {id(weight): weight for weight in laid.parameters() if weight.requires_grad}.values():
        weight.add_(torch.randn(weight.shape, generator=chance) * 0.1)
    laid.save_pretrained(target, save_embedding_layers=False)
    return target


def write_tensors(base, target, names):
    """What a freeze run saves: tensors that take the place of the base's."""
    target.mkdir(parents=True)
    weights = dict(AutoModelForCausalLM.from_pretrained(base).named_parameters())
    save_file({name: torch.randn_like(weights[name]) for name in names}, target / "trained.safetensors")
    table = {"base_model_name_or_path": str(base), "tensors": list(names)}
    (target / "trained_config.json").write_text(json.dumps(table))
    return target


def write_run(name, base, before=(), tensors=(), **kind):
    """The folder of a run in runs/: an adapter, or `tensors` that were trained, on those of the runs `before`."""
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    if tensors:
        write_tensors(base, folder / "adapter", tensors)
    else:
        write(base, folder / "adapter", **{"target_modules": "all-linear", **kind})
    (folder / "chat_template.jinja").write_text((Path(base) / "chat_template.jinja").read_text("utf-8"), "utf-8")
    model = {"base": str(base), "adapters": [str(Path("runs") / run / "adapter") for run in before]}
    (folder / "run.toml").write_text(tomlkit.dumps({"run": {"method": "lora", "name": name}, "model": model}))
    return folder
