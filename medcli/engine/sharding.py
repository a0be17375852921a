"""What a run shares out among its processes beside the data, as `templates/launch/<strategy>.yaml` says it."""

from pathlib import Path
from typing import Any

import torch
from accelerate.commands.config.config_args import load_config_from_file
from torch import nn
from torch.distributed.tensor import DTensor

from medcli.core import world as worlds
from medcli.core.resources import templates
from medcli.core.train_settings import TrainSettings


def launch_file(strategy: str) -> Path:
    """The configuration of accelerate for a strategy."""
    return templates() / "launch" / f"{strategy}.yaml"


def arguments(settings: TrainSettings) -> dict[str, Any]:
    """The arguments of transformers' TrainingArguments that bring the strategy about; none for plain copies."""
    if settings.strategy == "ddp" or worlds.current().size == 1:
        return {}
    config = load_config_from_file(str(launch_file(settings.strategy)))
    if settings.strategy == "fsdp2":
        return {"fsdp": True, "fsdp_config": dict(config.fsdp_config)}
    return {"deepspeed": _for_deepspeed(config.deepspeed_config)}


def _for_deepspeed(table: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed's own configuration; "auto" is what transformers fills in from its arguments."""
    zero: dict[str, Any] = {"stage": table["zero_stage"]}
    for part in ("optimizer", "param"):
        if table[f"offload_{part}_device"] != "none":
            zero[f"offload_{part}"] = {"device": table[f"offload_{part}_device"]}
    if table.get("zero3_save_16bit_model"):
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
    }


@torch.no_grad()
def gather(model: nn.Module, strategy: str) -> None:
    """Put whole tensors on the CPU in the place of sharded ones, in the first process; all must call it.

    The model is for saving then, not for training.
    """
    if strategy not in ("fsdp2", "zero3"):
        return
    first = worlds.current().is_first
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            whole = _whole(weight, strategy)
            if first:
                module.register_parameter(name, nn.Parameter(whole.cpu(), requires_grad=weight.requires_grad))


def _whole(weight: nn.Parameter, strategy: str) -> torch.Tensor:
    if strategy == "zero3":
        from deepspeed.zero import GatheredParameters

        with GatheredParameters([weight]):
            return weight.detach().clone()
    if isinstance(weight, DTensor):
        return weight.full_tensor()
    return weight.detach()
