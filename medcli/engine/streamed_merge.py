"""Merge without the model in memory: its files are read, changed and written a piece of a tensor at a time."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Report
from medcli.engine import skeleton
from medcli.engine.adapter_changes import Changes, changes_of
from medcli.engine.load import opened
from medcli.engine.skeleton import NotStreamed, Place
from medcli.engine.weight_changes import Change, Mixed, PartOf, changed
from medcli.engine.weight_files import FLOATS, KINDS, Stored, ToWrite, as_bytes, write

SHARD = 5 << 30  # bytes of a file of the merged model, when it takes more than one

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """A merge that can be done file by file: each tensor of the base, in order, and what happens to it."""

    tensors: Sequence[tuple[Stored, tuple[Change, ...]]]
    model: Any
    folder: Path
    code: Mapping[str, str] | None

    def bytes(self, dtype: torch.dtype) -> int:
        """What the weights will take on the disk."""
        return sum(tensor.size for tensor in self._written(dtype))

    def write(self, target: Path, dtype: torch.dtype, report: Report, shard: int = SHARD) -> None:
        """Write the weights, the configuration and the base's own code into `target`.

        Tensors that are stored in another precision than most are so on purpose, and are only ever widened.
        """
        tensors = self._written(dtype)
        shards = _shards(tensors, shard)
        total = sum(tensor.size for tensor in tensors)
        report.stage(f"merging {len(shards)} shard{'s' * (len(shards) > 1)}", total=-(-total // _MIB), unit="MiB")
        count = _Count(report)
        names = [_shard_name(number, len(shards)) for number in range(1, len(shards) + 1)]
        for name, part in zip(names, shards, strict=True):
            write(target / name, part, count.add)
        if len(shards) > 1:
            where = {tensor.name: name for name, part in zip(names, shards, strict=True) for tensor in part}
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
            (target / skeleton.INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
        self._write_settings(target, dtype)

    def _written(self, dtype: torch.dtype) -> list[ToWrite]:
        usual = _usual_kind([tensor for tensor, _ in self.tensors])
        return [_to_write(tensor, changes, _kind(tensor, KINDS[dtype], usual)) for tensor, changes in self.tensors]

    def _write_settings(self, target: Path, dtype: torch.dtype) -> None:
        config = self.model.config
        config.dtype, config.architectures = dtype, [type(self.model).__name__]
        config.save_pretrained(target)
        self.model.generation_config.save_pretrained(target)
        for name in self.code or {}:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / name, target / name)


def plan(parts: Sequence[tuple[float, ModelRef]], report: Report) -> Streamed:
    """What several runs, each with its weight, do to each tensor of the base they share; one run's weight is 1.

    Raises NotStreamed when that is not known for sure, and ModelError for what cannot be merged at all.
    """
    base, trusted = opened(parts[0][1], report)
    folder = skeleton.folder_of(base)
    model = skeleton.empty(str(folder), trusted)
    refuse_quantised(model.config, base)
    tensors = skeleton.stored(folder)
    places = skeleton.places(model, tensors)
    by_run = [(weight, _of_run(ref, str(folder), base, trusted)) for weight, ref in parts]
    changes = by_run[0][1] if [weight for weight, _ in by_run] == [1.0] else _mixed(by_run)
    names = skeleton.tied(model)
    _check_places(changes, places, names)
    changed_by = [(tensor, _at(places.get(name), changes, names)) for name, tensor in tensors.items()]
    return Streamed(tensors=changed_by, model=model, folder=folder, code=parts[0][1].code)


def refuse_quantised(config: Any, base: str) -> None:
    """Raises ModelError for weights of few bits: what is added to them could not be kept."""
    if "quantization_config" in config.to_dict():
        raise ModelError(
            f"{base} is stored in few bits, and nothing can be merged into those",
            hint="merge into the model it was made from: name that folder or hub id as base_model_name_or_path in the\n"
            "adapter's adapter_config.json; or use the adapter as it is: med chat RUN",
        )


def _of_run(ref: ModelRef, folder: str, base: str, trusted: bool) -> Changes:
    """The changes of all stages of a run, in order."""
    found: Changes = {}
    for stage in ref.adapters:
        for name, changes in changes_of(stage, skeleton.empty(folder, trusted), base).items():
            found.setdefault(name, []).extend(changes)
    return found


def _mixed(by_run: Sequence[tuple[float, Changes]]) -> Changes:
    names = {name for _, changes in by_run for name in changes}
    return {
        name: [Mixed(parts=tuple((weight, tuple(changes[name])) for weight, changes in by_run if name in changes))]
        for name in names
    }


def _check_places(changes: Changes, places: Mapping[str, Place], names: Mapping[str, list[str]]) -> None:
    """Each parameter that is changed must be found in the files: once, or whole in parts."""
    found: dict[str, list[Place]] = {}
    for place in places.values():
        found.setdefault(names[place.parameter][0], []).append(place)
    for parameter in changes:
        there = found.get(parameter, [])
        if not there:
            raise NotStreamed(f"the base's files hold no {parameter} as it is in the model")
        if len(there) > 1 and any(place.is_whole for place in there):
            raise NotStreamed(f"the base's files hold {parameter} more than once")


def _at(place: Place | None, changes: Changes, names: Mapping[str, list[str]]) -> tuple[Change, ...]:
    if place is None:
        return ()
    found = changes.get(names[place.parameter][0], ())
    if place.is_whole:
        return tuple(found)
    return tuple(PartOf(change=change, matrix=place.matrix, row=place.row) for change in found)


def _to_write(tensor: Stored, changes: Sequence[Change], kind: str) -> ToWrite:
    if tensor.kind not in FLOATS or not tensor.size or (kind == tensor.kind and not changes):
        return ToWrite(
            name=tensor.name, kind=tensor.kind, shape=tensor.shape, size=tensor.size, bytes=partial(tensor.bytes)
        )
    size = tensor.size // FLOATS[tensor.kind].itemsize * FLOATS[kind].itemsize
    return ToWrite(
        name=tensor.name, kind=kind, shape=tensor.shape, size=size, bytes=partial(_pieces, tensor, changes, kind)
    )


def _pieces(tensor: Stored, changes: Sequence[Change], kind: str) -> Iterator[bytes]:
    for piece in changed(tensor, changes):
        yield as_bytes(piece, kind)


def _usual_kind(tensors: Sequence[Stored]) -> str:
    """The precision that most of the weights are stored in."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        if tensor.kind in FLOATS:
            sizes[tensor.kind] = sizes.get(tensor.kind, 0) + tensor.size
    return max(sizes, key=lambda kind: sizes[kind], default="F32")


def _kind(tensor: Stored, wanted: str, usual: str) -> str:
    if tensor.kind not in FLOATS:
        return tensor.kind
    wider = FLOATS[wanted].itemsize > FLOATS[tensor.kind].itemsize
    return wanted if wider or tensor.kind == usual else tensor.kind


def _shards(tensors: Sequence[ToWrite], limit: int) -> list[list[ToWrite]]:
    """The tensors in order, as many in a file as fit; one that is larger than the limit has its own."""
    shards: list[list[ToWrite]] = [[]]
    room = limit
    for tensor in tensors:
        if shards[-1] and tensor.size > room:
            shards.append([])
            room = limit
        shards[-1].append(tensor)
        room -= tensor.size
    return shards


def _shard_name(number: int, count: int) -> str:
    return skeleton.SINGLE if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"


class _Count:
    """Adds up bytes, and tells a report each whole MiB."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._bytes = 0

    def add(self, bytes: int) -> None:
        before = self._bytes // _MIB
        self._bytes += bytes
        if self._bytes // _MIB > before:
            self._report.advance(self._bytes // _MIB)
