"""What vLLM can lay over a base model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medcli.core.errors import ModelError
from medcli.core.model_ref import ADAPTER_CONFIG

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that it makes room for


def rank_of(name: str, adapters: Sequence[Path]) -> int:
    """The rank of the one LoRA adapter that a model has; raises ModelError for whatever else it was trained to."""
    config = adapters[0] / ADAPTER_CONFIG
    table: dict[str, Any] = json.loads(config.read_text("utf-8")) if config.is_file() else {}
    if len(adapters) > 1 or table.get("peft_type") != "LORA" or table.get("use_dora"):
        raise ModelError(
            f"vLLM cannot lay what '{name}' was trained to over its base", hint=f"merge it: med merge {name}"
        )
    return int(table["r"])


def room_for(rank: int) -> int:
    """The smallest room that vLLM makes for adapters of so high a rank."""
    return next((room for room in _RANKS if room >= rank), rank)
