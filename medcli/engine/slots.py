"""Keys and values of many texts at once, each in a row of its own that grows, is cut back and is copied by itself.

Every text begins at the left of its row, so texts of any length stand side by side without padding between what is
known and what is new: a token sees the places up to its own. What lies behind a text's end is never seen, and is
written over when the text goes on.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from medcli.engine.loaded import Loaded
from medcli.engine.virtual_tokens import opening

GROWTH = 256  # tokens by which rows become longer
_SEEING = {"full_attention", "sliding_attention"}  # layers whose view of a text a mask can say


def can_hold(loaded: Loaded) -> bool:
    """Whether all that a model knows of a text are keys and values that may be laid side by side under masks of ours.

    Not so for models with a state (Mamba), or that attend in ways of their own (ALiBi, chunks).
    """
    model = loaded.causal_lm
    if model._is_stateful or not model.is_backend_compatible():
        return False
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    return takes_positions and set(_layer_types(model)) <= _SEEING


def _layer_types(model: Any) -> list[str]:
    config = model.config.get_text_config().to_dict()
    types: list[str] = config.get("layer_types") or []
    return types or ["sliding_attention" if config.get("sliding_window") else "full_attention"]


@dataclass(slots=True, kw_only=True)
class _Place:
    """Where the tokens of a call belong: rows from `first` on, `positions` [rows, tokens], all below `longest`."""

    first: int
    positions: Tensor
    longest: int
    rows: int  # that the buffers have at least


class _Layer(CacheLayerMixin):
    """A layer's keys and values, [rows, heads, capacity, width]."""

    def __init__(self, place: _Place) -> None:
        super().__init__()
        self._place = place

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        # Zeros: what nobody sees is multiplied by 0, which must not be a NaN.
        self.keys, self.values = (
            part.new_zeros(0, part.shape[1], 0, part.shape[3]) for part in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        place = self._place
        self.make_room(place.longest)
        last = place.first + len(place.positions)
        rows = torch.arange(place.first, last, device=key_states.device)[:, None]
        for kept, new in zip(self.both, (key_states, value_states), strict=True):
            kept[rows, :, place.positions] = new.transpose(1, 2)
        keys, values = (kept[place.first : last, :, : place.longest] for kept in self.both)
        return keys, values

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        """Keys and values, [rows, heads, capacity, width]."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def make_room(self, tokens: int) -> None:
        """Have so many tokens fit into each row, and as many rows as are in use."""
        self.keys, self.values = (_grown(part, self._place.rows, tokens) for part in self.both)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._place.longest, 0

    def get_seq_length(self) -> int:
        return 0 if not self.is_initialized else self._place.longest - self._place.positions.shape[1]

    def get_max_length(self) -> int:
        return -1


def _grown(kept: Tensor, rows: int, tokens: int) -> Tensor:
    """The same with room for so many rows and tokens."""
    if kept.shape[0] >= rows and kept.shape[2] >= tokens:
        return kept
    capacity = max(kept.shape[2], -(-tokens // GROWTH) * GROWTH)
    grown = kept.new_zeros(max(rows, kept.shape[0]), kept.shape[1], capacity, kept.shape[3])
    grown[: kept.shape[0], :, : kept.shape[2]] = kept
    return grown


class Slots:
    """The rows, and the model that reads into them."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._model = loaded.causal_lm
        self._types = _layer_types(self._model)
        self._window = self._model.config.get_text_config().to_dict().get("sliding_window")
        self._keeps_some = self._model._supports_logits_to_keep()
        self._place = _Place(first=0, positions=torch.zeros(0, 0, dtype=torch.long), longest=0, rows=1)
        self._cache = Cache(layer_class_to_replicate=partial(_Layer, self._place))
        self._virtual: Sequence[Any] = opening(loaded)[1].layers if loaded.prefix else ()

    @torch.inference_mode()
    def read(self, first: int, texts: Sequence[Sequence[int]], known: Sequence[int]) -> Tensor:
        """Read the next tokens of the rows from `first` on; the logits after each row's last one, [rows, vocabulary].

        `known` counts the tokens of each row that were read before.
        """
        columns = torch.tensor([len(text) - 1 for text in texts], device=self._loaded.device)
        asked, which = torch.unique(columns, return_inverse=True)
        logits = self._forward(first, texts, known, asked if self._keeps_some else 0)
        return logits[torch.arange(len(texts), device=logits.device), which if self._keeps_some else columns]

    @torch.inference_mode()
    def read_each(self, row: int, text: Sequence[int], known: int) -> Tensor:
        """Read tokens of one row; the logits after each of them, [tokens, vocabulary]."""
        return self._forward(row, [text], [known], 0)[0]

    def _forward(self, first: int, texts: Sequence[Sequence[int]], known: Sequence[int], kept: Tensor | int) -> Tensor:
        device, virtual = self._loaded.device, self._loaded.prefix
        longest = max(map(len, texts))
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)
        starts = torch.tensor(known, device=device) + virtual
        positions = starts[:, None] + torch.arange(longest, device=device)
        place = self._place
        place.first, place.positions = first, positions
        place.longest, place.rows = virtual + max(known) + longest, max(place.rows, first + len(texts))
        self._begin(first, known)
        some = {"logits_to_keep": kept} if self._keeps_some else {}
        out = self._model(
            input_ids=ids, attention_mask=self._mask(positions, place.longest), position_ids=positions,
            past_key_values=self._cache, use_cache=True, **some,
        )  # fmt: skip
        logits: Tensor = out.logits
        return logits

    def _mask(self, positions: Tensor, longest: int) -> Any:
        """What each token sees, [rows, 1, tokens, longest], as the model's attention takes it; by type of layer."""
        places = torch.arange(longest, device=positions.device)
        before = places <= positions[:, None, :, None]
        masks = {}
        for kind in set(self._types):
            near = kind == "sliding_attention" and self._window
            masks[kind] = before & (places > positions[:, None, :, None] - self._window) if near else before
        if self._model.config._attn_implementation != "sdpa":
            lowest = torch.finfo(self._model.dtype).min
            zeros = torch.zeros((), dtype=self._model.dtype, device=positions.device)
            masks = {kind: torch.where(mask, zeros, lowest) for kind, mask in masks.items()}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _begin(self, first: int, known: Sequence[int]) -> None:
        """Put the virtual tokens into the rows that are read from their beginning."""
        new = [row for row, before in enumerate(known, first) if not before]
        for number, kept in enumerate(self._virtual):
            if len(self._cache.layers) <= number:
                self._cache.layers.append(_Layer(self._place))
                self._cache.layers[number].lazy_initialization(kept.keys, kept.values)
            layer = self._cache.layers[number]
            layer.make_room(self._place.longest)
            for part, virtual in zip(layer.both, (kept.keys, kept.values), strict=True):
                part[new, :, : virtual.shape[2]] = virtual

    @torch.inference_mode()
    def copy(self, source: int, target: int, tokens: int) -> None:
        """Let row `target` begin as `source` does, with so many tokens."""
        self._place.rows = max(self._place.rows, target + 1)
        end = tokens + self._loaded.prefix
        for layer in self._cache.layers:
            layer.make_room(end)
            for part in layer.both:
                part[target, :, :end] = part[source, :, :end]

    @torch.inference_mode()
    def swap(self, one: int, other: int) -> None:
        """Two rows change places."""
        if one == other:
            return
        self._place.rows = max(self._place.rows, one + 1, other + 1)
        for layer in self._cache.layers:
            layer.make_room(0)
            for part in layer.both:
                part[[one, other]] = part[[other, one]]
