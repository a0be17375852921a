"""Attention by document over a padding-free row, registered with transformers as "by_document".

A row holds documents side by side. A block-diagonal mask over it costs O((sum of lengths)^2); one call a document costs
a launch each. Here documents of like length are gathered into a rectangle and attended in one causal call: what is past
a document's end is never seen by its own tokens, so no mask is needed. Documents reach us by the standard keyword
`cu_seq_lens_q` (int32, on the CPU), so flash attention works on the same batches.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "by_document"
WASTE = 1.25  # a rectangle may hold this many times its real tokens


@dataclass(frozen=True, slots=True)
class Layout:
    """How a row lies in rectangles of documents of like length.

    `shapes` are (documents, length) of each rectangle, one after the other in a flat array; `spread` is the row's
    position of each flat one (a document's last token again and again past its end), `back` the flat position of each
    token of the row, and `filler` the flat positions that hold no token of their own.
    """

    shapes: tuple[tuple[int, int], ...]
    spread: Tensor
    back: Tensor
    filler: Tensor


@lru_cache(maxsize=16)
def layout(lengths: tuple[int, ...], device: torch.device) -> Layout:
    """Cut a row of documents into rectangles that hold at most WASTE times their real tokens."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    shapes, spread, back, filler = [], [], torch.empty(starts[-1], dtype=torch.long), []
    flat = 0
    for group in _groups(lengths):
        longest = lengths[group[0]]
        shapes.append((len(group), longest))
        for document in group:
            start, length = starts[document], lengths[document]
            spread.append(start + torch.arange(longest).clamp(max=length - 1))
            back[start : start + length] = torch.arange(flat, flat + length)
            filler.append(torch.arange(flat + length, flat + longest))
            flat += longest
    return Layout(tuple(shapes), torch.cat(spread).to(device), back.to(device), torch.cat(filler).to(device))


def _groups(lengths: tuple[int, ...]) -> list[list[int]]:
    """Documents of like length, longest first."""
    groups: list[list[int]] = []
    tokens = 0
    for document in sorted(range(len(lengths)), key=lambda document: -lengths[document]):
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and longest * (len(groups[-1]) + 1) <= WASTE * (tokens + lengths[document]):
            groups[-1].append(document)
            tokens += lengths[document]
        else:
            groups.append([document])
            tokens = lengths[document]
    return groups


class _Spread(torch.autograd.Function):
    """Row -> rectangles. Fillers get no gradient, so the way back is a plain look-up, not a sum by index."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, plan: Layout) -> Tensor:
        ctx.plan = plan
        return row.index_select(0, plan.spread)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.index_select(0, ctx.plan.back), None


class _Collect(torch.autograd.Function):
    """Rectangles -> row."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, plan: Layout) -> Tensor:
        ctx.plan = plan
        return flat.index_select(0, plan.back)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        spread = gradient.index_select(0, ctx.plan.spread)
        return spread.index_fill_(0, ctx.plan.filler, 0.0), None


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document. query: [1, heads, tokens, width]; returns [1, tokens, heads, width].

    A token sees itself and at most `sliding_window` - 1 tokens before it (Mistral); with a `softcap` the scores are
    softcap * tanh(scores / softcap) (Gemma 2).

    Raises TypeError on a batch that is no padding-free row: attending across documents must not pass in silence.
    """
    grouped = query.shape[1] != key.shape[1]
    window = sliding_window if sliding_window and sliding_window < max_length_q else None
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and softcap is None:
        return _attend_varlen(query, key, value, cu_seq_lens_q, max_length_q, scaling, grouped, window), None
    plan = layout(tuple(cu_seq_lens_q.diff().tolist()), query.device)
    # The CPU's bfloat16 backward of attention is slow: +19 % tokens a second on a 10 M model with float32 here.
    with torch.autocast(query.device.type, enabled=False):
        parts = [_Spread.apply(part[0].transpose(0, 1).float(), plan) for part in (query, key, value)]  # type: ignore[no-untyped-call]
        sizes = [count * length for count, length in plan.shapes]
        pieces = [
            _attend_rectangle(three, shape, scaling, dropout, grouped, window, softcap)
            for *three, shape in zip(*(part.split(sizes) for part in parts), plan.shapes, strict=True)
        ]
        row: Tensor = _Collect.apply(torch.cat(pieces), plan)  # type: ignore[no-untyped-call]
    return row[None].to(query.dtype), None


def _attend_rectangle(
    three: list[Tensor],
    shape: tuple[int, int],
    scaling: float | None,
    dropout: float,
    grouped: bool,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Query, key and value, each [documents * length, heads, width] -> the same shape with the query's heads."""
    q, k, v = (part.view(*shape, *part.shape[1:]).transpose(1, 2) for part in three)
    if softcap is not None:
        out = _attend_capped(q, k, v, scaling, dropout, _seen(shape[1], window, q.device), softcap)
    else:
        seen = _seen(shape[1], window, q.device) if window and window < shape[1] else None
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=seen, is_causal=seen is None, dropout_p=dropout, scale=scaling, enable_gqa=grouped
        )
    return out.transpose(1, 2).flatten(0, 1)


def _attend_capped(
    q: Tensor, k: Tensor, v: Tensor, scaling: float | None, dropout: float, seen: Tensor, softcap: float
) -> Tensor:
    """Attention whose scores no kernel of torch can bound; each part [documents, heads, length, width]."""
    k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], 1) for part in (k, v))
    scores = q @ k.mT * (scaling if scaling is not None else q.shape[-1] ** -0.5)
    scores = (softcap * torch.tanh(scores / softcap)).masked_fill(~seen, float("-inf"))
    return F.dropout(scores.softmax(-1), dropout) @ v


@lru_cache(maxsize=16)
def _seen(length: int, window: int | None, device: torch.device) -> Tensor:
    """Which positions each position sees: [length, length]."""
    every = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return every if window is None else every.triu(1 - window)


def _attend_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ends: Tensor,
    longest: int,
    scaling: float | None,
    grouped: bool,
    window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    ends = ends.to(query.device)
    seen = (-1 if window is None else window - 1, 0)
    out = varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling, window_size=seen, enable_gqa=grouped)
    assert isinstance(out, Tensor)  # a tuple only when more is asked for
    return out[None]


def no_mask(*_: Any, **__: Any) -> None:
    """Documents lie in rectangles of their own: nothing is to be masked."""


def forget() -> None:
    """Drop what is cached: tensors of one mode, such as fake ones, must not be met in another."""
    layout.cache_clear()
    _seen.cache_clear()


@contextmanager
def own(model: Any) -> Iterator[None]:
    """Within the block `model` attends as transformers would have it, not by document."""
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, no_mask)
