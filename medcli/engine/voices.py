"""Several models of one base, which is in memory once: what each has on top of it is switched on when it speaks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medcli.core.model_ref import TENSORS_CONFIG, ModelRef, prefix_length
from medcli.core.report import Report
from medcli.engine import stages
from medcli.engine.load import load, load_tokenizer, refuse_reward_model, stops_of
from medcli.engine.loaded import Loaded
from medcli.engine.tensors import fitting


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A model that can be asked; `begin` is called before it uses a base that others use too."""

    loaded: Loaded
    begin: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where models are loaded, and how precisely; see `load`."""

    device: torch.device
    quant: str = "none"
    dtype: torch.dtype | None = None


def open_voices(refs: Mapping[str, ModelRef], place: Place, report: Report) -> dict[str, Voice]:
    """Each model under its name. Those that differ by their last stage share all that is beneath it.

    Raises ModelError when one does not load, or is a reward model.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, ref in refs.items():
        refuse_reward_model(ref)
        # On a quantised base nothing can be merged, so models of several stages have no base in common.
        shared = ref.adapters[:-1] if place.quant == "none" or len(ref.adapters) < 2 else ref.adapters
        groups.setdefault((ref.base, shared, tuple(sorted((ref.code or {}).items()))), []).append(name)
    voices: dict[str, Voice] = {}
    for names in groups.values():
        several = {name: refs[name] for name in names}
        voices |= _sharing(several, place, report) if len(names) > 1 else _alone(several, place, report)
    return {name: voices[name] for name in refs}


def _alone(refs: Mapping[str, ModelRef], place: Place, report: Report) -> dict[str, Voice]:
    return {
        name: Voice(
            loaded=load(ref, device=place.device, report=report, dtype=place.dtype, quant=place.quant),
            begin=lambda: None,
        )
        for name, ref in refs.items()
    }


def _sharing(refs: Mapping[str, ModelRef], place: Place, report: Report) -> dict[str, Voice]:
    """One base for all, and a switch for each."""
    first = next(iter(refs.values()))
    beneath = replace(first, adapters=first.adapters[:-1])
    common = load(
        beneath, device=place.device, report=report, dtype=place.dtype, quant=place.quant, merge=place.quant == "none"
    )
    switch = _Switch(common)
    for name, ref in refs.items():
        switch.add(name, ref.adapters[-1:])
    voices = {}
    for name, ref in refs.items():
        tokenizer, template = load_tokenizer(ref, report)
        own = replace(
            common,
            model=switch.model_of(name),
            tokenizer=tokenizer,
            template=template,
            stops=stops_of(common.model, tokenizer, template),
            prefix=prefix_length(ref.adapters[-1]) if ref.adapters else 0,
        )
        voices[name] = Voice(loaded=own, begin=partial(switch.turn_to, name))
    return voices


class _Switch:
    """A base model, and what several models have laid over it, of which one is on at a time."""

    def __init__(self, common: Loaded) -> None:
        self._common = common
        self._weights = dict(common.model.named_parameters())
        self._adapted: Any = None  # the base with the LoRA matrices of all
        self._names: dict[str, str] = {}  # of peft's adapters: theirs may hold no dots
        self._prefixed: dict[str, Any] = {}
        self._tensors: dict[str, dict[str, Tensor]] = {}
        self._on = ""

    def add(self, name: str, stage: Sequence[Path]) -> None:
        """Learn what `name` has on top: a stage's LoRA, prefix or tensors, or nothing."""
        base = self._common.base
        for folder in stage:
            if (folder / TENSORS_CONFIG).is_file():
                found = fitting(self._weights, folder)
                weights = self._weights
                self._tensors[name] = {
                    key: part.to(weights[key].device, weights[key].dtype) for key, part in found.items()
                }
            elif prefix_length(folder):
                self._prefixed[name] = stages.with_adapter(self._common.model, folder, base)
            else:
                self._names[name] = f"voice{len(self._names)}"
                beneath = self._common.model if self._adapted is None else self._adapted
                self._adapted = stages.with_adapter(beneath, folder, base, name=self._names[name])
                self._adapted.eval()

    def model_of(self, name: str) -> Any:
        """What is called when it speaks."""
        if name in self._names:
            return self._adapted
        return self._prefixed.get(name, self._common.model)

    def turn_to(self, name: str) -> None:
        """Switch off what was on, and on what `name` has."""
        if name == self._on:
            return
        self._exchange(self._on)
        self._exchange(name)
        if self._adapted is not None:
            if name in self._names:
                self._adapted.base_model.enable_adapter_layers()
                self._adapted.set_adapter(self._names[name], inference_mode=True)
            else:
                self._adapted.base_model.disable_adapter_layers()
        self._on = name

    def _exchange(self, name: str) -> None:
        """A model's tensors and those in their places change places."""
        own = self._tensors.get(name, {})
        for key, tensor in own.items():
            weight = self._weights[key]
            weight.data, own[key] = tensor, weight.data
