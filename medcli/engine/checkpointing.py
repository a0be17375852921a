"""Gradient checkpointing: activations are computed again in the backward instead of kept.

transformers' own switch checkpoints every layer and makes the embeddings' output require a gradient, so that frozen
layers below the first learning one take part in the backward for nothing. Here only layers a gradient passes are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from medcli.core.errors import ModelError
from medcli.engine.loaded import Loaded


@contextmanager
def checkpointed(loaded: Loaded) -> Iterator[None]:
    """Within the block the layers that a gradient passes keep their inputs only; the same loss and gradients.

    Raises ModelError for a model whose layers cannot be checkpointed.
    """
    layers, config = _in_backward(loaded), loaded.causal_lm.config
    uses_cache, config.use_cache = config.use_cache, False  # a cache would be filled again in the backward
    for layer in layers:
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        layer.gradient_checkpointing = True
    try:
        yield
    finally:
        config.use_cache = uses_cache
        for layer in layers:
            layer.gradient_checkpointing = False


def _in_backward(loaded: Loaded) -> list[GradientCheckpointingLayer]:
    """The layers from the first one on that learns, or all when the embeddings learn."""
    model = loaded.causal_lm
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(
            f"{type(model).__name__} cannot compute its activations again", hint="leave out --checkpointing"
        )
    if _learns(model.get_input_embeddings()):
        return layers
    first = next((number for number, layer in enumerate(layers) if _learns(layer)), len(layers))
    return layers[first:]


def _learns(module: nn.Module) -> bool:
    return any(weight.requires_grad for weight in module.parameters())
