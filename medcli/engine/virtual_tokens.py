"""The virtual tokens of a tuned prefix: keys and values that stand before every text, in each layer.

peft puts them before the text in every call of the model, whatever cache it is given. So they are in a growing cache
exactly once when the cache begins with them and the calls go to the model beneath.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from medcli.engine.loaded import Loaded

ENCODER = "prefix_encoder.safetensors"


def opening(loaded: Loaded) -> tuple[Any, Any]:
    """The model to call with a growing cache of one row, and what that begins with: None when there is no prefix."""
    if not loaded.prefix:
        return loaded.model, None
    return loaded.model.get_base_model(), loaded.model.get_prompt(batch_size=1)


def padding_parts(loaded: Loaded) -> bool:
    """Whether padding left of a text, which lies behind the prefix, would push it out of sight.

    Layers that attend within a window count the padding as distance; others do not see it.
    """
    config = loaded.model.config.get_text_config().to_dict()
    return bool(loaded.prefix and config.get("sliding_window"))


def save_encoder(loaded: Loaded, folder: Path) -> None:
    """Write what a prefix is computed from while it is learnt; peft itself keeps only the result."""
    if loaded.prefix:
        save_file(_encoder(loaded).state_dict(), folder / ENCODER)


def load_encoder(loaded: Loaded, folder: Path) -> bool:
    """Take back what `save_encoder` wrote; False when the model has no prefix."""
    if loaded.prefix:
        _encoder(loaded).load_state_dict(load_file(folder / ENCODER))
    return bool(loaded.prefix)


def _encoder(loaded: Loaded) -> Any:
    return loaded.model.prompt_encoder[loaded.model.active_adapter]
