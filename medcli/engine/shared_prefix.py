"""What many prompts begin with alike, read once: keys and values of one row that every row of a batch attends to."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from medcli.engine.endings import common
from medcli.engine.loaded import Loaded

_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}  # layers that keep keys and values alone
CALL = 256  # tokens; a group of its own must save more: its beginning takes a call, and its batches are less full


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The numbers of some texts, and how many tokens that they begin with are read once; each has at least one more."""

    texts: list[int]
    shared: int

    @property
    def saved(self) -> int:
        """The tokens that are not read, beyond what the call costs; less than nothing when it does not pay."""
        return (len(self.texts) - 1) * self.shared - CALL


def groups(texts: Sequence[numpy.ndarray]) -> list[Group]:
    """Texts of tokens in groups such that reading what each group shares once saves most tokens.

    Those for which it does not pay are the last group, which shares nothing.
    """
    if not texts:
        return []
    order = sorted(range(len(texts)), key=lambda number: texts[number].astype(">i4").tobytes())
    alike = [common(texts[one], texts[other]) for one, other in zip(order[:-1], order[1:], strict=True)]
    division = _Divider(texts, order, alike).best(0, len(order))
    return [*division.groups, *([Group(texts=division.rest, shared=0)] if division.rest else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Division:
    """Groups that save tokens, and the texts that are in none."""

    groups: list[Group]
    rest: list[int]

    @property
    def saved(self) -> int:
        return sum(group.saved for group in self.groups)


class _Divider:
    """Divides sorted texts, of which neighbours have `alike` tokens in common, along the tree that they form."""

    def __init__(self, texts: Sequence[numpy.ndarray], order: Sequence[int], alike: Sequence[int]) -> None:
        self._lengths = [len(texts[number]) for number in order]
        self._order, self._alike = order, alike

    def best(self, start: int, end: int) -> _Division:
        """All texts from `start` to `end` in one group, or each branch by itself with the smallest ones together."""
        shortest = min(self._lengths[start:end]) - 1
        edge = min(self._alike[start : end - 1], default=shortest)
        shared = min(edge, shortest)
        whole = _grouped(self._order[start:end], shared)
        if (end - start - 1) * max(self._lengths[start:end]) - CALL <= whole.saved:  # no division can save more
            return whole
        starts = [start, *(at + 1 for at in range(start, end - 1) if self._alike[at] == edge), end]
        parts = [self.best(one, other) for one, other in zip(starts[:-1], starts[1:], strict=True)]
        small = _grouped([number for part in parts for number in part.rest], shared)
        divided = _Division(groups=[group for part in (*parts, small) for group in part.groups], rest=small.rest)
        return divided if divided.saved > whole.saved else whole


def _grouped(texts: Sequence[int], shared: int) -> _Division:
    """One group, when that saves something."""
    group = Group(texts=list(texts), shared=shared)
    return _Division(groups=[group], rest=[]) if group.saved > 0 else _Division(groups=[], rest=group.texts)


def can_share(loaded: Loaded, longest: int) -> bool:
    """Whether texts of up to `longest` tokens may be read after a beginning that was read apart, with masks of ours.

    Not by models that keep more than keys and values (Mamba), attend in ways of their own (ALiBi), have a tuned prefix
    before every text, or see no more than a window of so long a text.
    """
    model = loaded.causal_lm
    if model._is_stateful or loaded.prefix or not model.is_backend_compatible():
        return False
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    config = model.config.get_text_config().to_dict()
    windows = [config.get(name) for name in ("sliding_window", "attention_chunk_size")]
    attends = set(config.get("layer_types") or ()) <= _ATTENTION
    return attends and all(longest <= window for window in windows if window)


class _Kept(DynamicLayer):
    """A layer's keys and values of the beginning, [1, heads, tokens, width]: seen by every row, and never added to.

    Nothing is kept of what comes after it, so that a batch holds one layer's keys and values at a time.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        rows = len(key_states)
        keys, values = (kept.expand(rows, -1, -1, -1) for kept in (self.keys, self.values))
        return torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)


@torch.inference_mode()
def read(loaded: Loaded, beginning: Sequence[int] | numpy.ndarray) -> Cache:
    """The keys and values of `beginning`, [tokens], to be seen by the rows of any batch."""
    cache = DynamicCache()
    ids = torch.as_tensor(beginning).long()[None].to(loaded.device)
    last = {"logits_to_keep": 1} if loaded.causal_lm._supports_logits_to_keep() else {}
    loaded.causal_lm(input_ids=ids, past_key_values=cache, use_cache=True, **last)
    return Cache(layers=[_Kept(layer.keys, layer.values) for layer in cache.layers])
