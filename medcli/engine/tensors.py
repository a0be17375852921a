"""Tensors that a run trained, put in the place of the base model's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from medcli.core.errors import ModelError

TENSORS = "trained.safetensors"


def put_back(model: Any, folder: Path) -> Any:
    """`model` with the tensors of `folder` in the place of its own; raises ModelError when they do not fit."""
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in fitting(weights, folder).items():
            weights[name].copy_(tensor)
    return model


def fitting(weights: Mapping[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of `folder`, by their names among `weights`; raises ModelError when they do not fit those."""
    try:
        tensors = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / TENSORS}: {error}", hint="copy it again, or train the run again") from error
    _check_shapes(folder, {name: tuple(w.shape) for name, w in weights.items()}, tensors)
    return tensors


def _check_shapes(folder: Path, shapes: dict[str, tuple[int, ...]], tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if shapes.get(name) != tuple(tensor.shape):
            have = shapes.get(name, "none")
            raise ModelError(
                f"{folder} does not fit its base model: {name} is {tuple(tensor.shape)} there, {have} here"
            )
