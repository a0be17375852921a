"""A model without its weights: the shapes of its parameters, and what each is called in the files of its weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from medcli.engine import remote_code
from medcli.engine.weight_files import Stored, contents
from medcli.engine.weights import config_of, is_offline, problems_said

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_STACKED = (MergeModulelist,)
_STACKED_AND_JOINED = (MergeModulelist, Concatenate)


class NotStreamed(Exception):
    """Why something cannot be merged file by file, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tensor of a file goes: a parameter, from row `row` of its matrix `matrix` on; `is_whole` = all of it."""

    parameter: str
    matrix: int = 0
    row: int = 0
    is_whole: bool = True


def empty(base: str, trusted: bool) -> Any:
    """The model in `base` with parameters that have a shape and no content."""
    with problems_said(base), remote_code.said(base, trusted):
        config = config_of(base, trusted)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
        if (Path(base) / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(base)
    return model


def folder_of(base: str) -> Path:
    """The folder with the files of `base`; those of a hub id are fetched if they are not there yet.

    Raises ServiceError when the hub cannot be reached.
    """
    if Path(base).is_dir():
        return Path(base)
    with problems_said(base):
        offline = is_offline(base)
        small = huggingface_hub.snapshot_download(base, allow_patterns=[*remote_code.SMALL], local_files_only=offline)
        wanted = _file_names(Path(small))
        return Path(huggingface_hub.snapshot_download(base, allow_patterns=wanted, local_files_only=offline))


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights, in order; raises NotStreamed when there are none by the usual names."""
    files = [folder / name for name in _file_names(folder)]
    if absent := [file for file in files if not file.is_file()]:
        raise NotStreamed(f"there is no {absent[0]}")
    return files


def stored(folder: Path) -> dict[str, Stored]:
    """All tensors of the weights by name; raises ModelError for a damaged file, NotStreamed when there are none."""
    return {name: tensor for file in weight_files(folder) for name, tensor in contents(file).items()}


def tied(model: Any) -> dict[str, list[str]]:
    """Each parameter's name -> all names of that very parameter, its own among them."""
    groups: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(weight), []).append(name)
    return {name: names for names in groups.values() for name in names}


def places(model: Any, tensors: Mapping[str, Stored]) -> dict[str, Place]:
    """What loading makes of each tensor of the files: its parameter, under the model's own name for it.

    Experts may be stored one by one, and be one tensor in the model. What is left out is no parameter of the model, or
    becomes one in a way that is not known here.
    """
    mapping = get_model_conversion_mapping(model)
    renamings = [step for step in mapping if isinstance(step, WeightRenaming)]
    converters = [step for step in mapping if isinstance(step, WeightConverter)]
    known = model.state_dict()
    shapes = {name: tuple(w.shape) for name, w in model.named_parameters(remove_duplicate=False)}
    found: dict[str, Place] = {}
    parts: dict[str, dict[str, list[str]]] = {}
    for name in sorted(tensors, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, known)
        if pattern is not None:
            parts.setdefault(target, {}).setdefault(pattern, []).append(name)
        elif shapes.get(target) == tensors[name].shape:
            found[name] = Place(parameter=target)
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    for target, by_source in parts.items():
        converter = by_pattern[next(iter(by_source))]
        found |= _parts(target, converter, by_source, tensors, shapes.get(target, ()))
    return found


def _parts(
    target: str,
    converter: Any,
    by_source: Mapping[str, Sequence[str]],
    tensors: Mapping[str, Stored],
    shape: tuple[int, ...],
) -> dict[str, Place]:
    """The places of experts' tensors that are stacked, those of `gate` and `up` one above the other."""
    kinds = tuple(type(operation) for operation in converter.operations)
    known = kinds == _STACKED or (kinds == _STACKED_AND_JOINED and converter.operations[1].dim == 1)
    if not known or converter.operations[0].dim != 0 or len(shape) != 3:
        return {}
    found: dict[str, Place] = {}
    row = 0
    for pattern in converter.source_patterns:
        names = by_source.get(pattern, ())
        sizes = {tensors[name].matrices for name in names}
        if len(names) != shape[0] or {columns for _, _, columns in sizes} != {shape[2]} or len(sizes) != 1:
            return {}
        for matrix, name in enumerate(names):
            found[name] = Place(parameter=target, matrix=matrix, row=row, is_whole=False)
        row += sizes.pop()[1]
    return found if row == shape[1] else {}


def _file_names(folder: Path) -> list[str]:
    index = folder / INDEX
    if (folder / SINGLE).is_file() or not index.is_file():  # transformers looks for the one file first
        return [SINGLE]
    return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
