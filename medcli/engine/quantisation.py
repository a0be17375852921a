"""Frozen weights in few bits by bitsandbytes: nf4 (QLoRA, Dettmers et al. 2023), LLM.int8() (Dettmers et al. 2022)."""

from typing import Any

import torch
from transformers import BitsAndBytesConfig

from medcli.core.errors import DeviceError
from medcli.engine.device import has_bf16

DEVICES = ("cuda", "cpu")  # where bitsandbytes trains


def check(quant: str, device: torch.device) -> None:
    """Raises DeviceError for a device on which weights of few bits cannot be trained on."""
    if quant != "none" and device.type not in DEVICES:
        raise DeviceError(
            f"--quant {quant} works on {' and '.join(DEVICES)}, not on {device.type}",
            hint="leave out --quant, or add --device cpu",
        )


def placement(quant: str, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is to be told; nf4 with double quantisation is what QLoRA found best."""
    if quant == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if has_bf16(device) else dtype(device),
        )
    return {"quantization_config": config, "device_map": {"": device}}


def dtype(device: torch.device) -> torch.dtype:
    """The precision of what is not quantised: norms, embeddings and head."""
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if has_bf16(device) else torch.float16


def ready(model: Any) -> Any:
    """`model`, able to learn through its quantised matrices.

    In evaluation on a CPU bitsandbytes packs nf4 anew for a kernel that has no backward and only fits widths of 64; one
    validation, and no gradient would pass any more. Norms are kept from float16, whose sums overflow.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    for weight in model.parameters():
        if weight.ndim == 1 and weight.dtype == torch.float16:
            weight.data = weight.data.float()
    return model
