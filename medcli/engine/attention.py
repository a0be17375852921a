"""Attention by document over a padding-free row, registered with transformers as "by_document".

A row holds documents side by side. A block-diagonal mask over it costs O((sum of lengths)^2); one call a document costs
a launch each. Here documents of like length are gathered into a rectangle and attended in one causal call: what is past
a document's end is never seen by its own tokens, so no mask is needed. Documents reach us by the standard keyword
`cu_seq_lens_q` (int32, on the CPU), so flash attention works on the same batches.
"""

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
class Rectangle:
    """Documents `count` x `length` wide; `gather` are row positions, `keep` where real tokens lie in the rectangle."""

    count: int
    length: int
    gather: Tensor
    keep: Tensor | None


@lru_cache(maxsize=64)
def rectangles(lengths: tuple[int, ...]) -> tuple[list[Rectangle], Tensor]:
    """Cut a row into rectangles of documents of like length; also the order that puts the tokens back."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    by_length = sorted(range(len(lengths)), key=lambda document: -lengths[document])
    groups: list[list[int]] = []
    for document in by_length:
        group = groups[-1] if groups else None
        if group and lengths[group[0]] * (len(group) + 1) <= WASTE * (
            sum(lengths[d] for d in group) + lengths[document]
        ):
            group.append(document)
        else:
            groups.append([document])
    shapes = [_rectangle([(starts[d], lengths[d]) for d in group]) for group in groups]
    order = torch.cat([torch.arange(starts[d], starts[d] + lengths[d]) for d in by_length])
    return shapes, torch.argsort(order)


def _rectangle(documents: list[tuple[int, int]]) -> Rectangle:
    longest = documents[0][1]
    gather = torch.cat([start + torch.arange(longest).clamp(max=length - 1) for start, length in documents])
    if all(length == longest for _, length in documents):
        return Rectangle(len(documents), longest, gather, None)
    keep = torch.cat([index * longest + torch.arange(length) for index, (_, length) in enumerate(documents)])
    return Rectangle(len(documents), longest, gather, keep)


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
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document. query: [1, heads, tokens, width]; returns [1, tokens, heads, width].

    Raises TypeError on a batch that is no padding-free row: attending across documents must not pass in silence.
    """
    grouped = query.shape[1] != key.shape[1]
    if query.is_cuda:
        return _attend_varlen(query, key, value, cu_seq_lens_q, max_length_q, scaling, grouped), None
    lengths = tuple(cu_seq_lens_q.diff().tolist())
    shapes, back = rectangles(lengths)
    # The CPU's bfloat16 backward of attention is slow: +19 % tokens a second on a 10 M model with float32 here.
    parts = [part[0].transpose(0, 1).float() for part in (query, key, value)]
    with torch.autocast("cpu", enabled=False):
        pieces = [_attend_rectangle(parts, shape, scaling, dropout, grouped) for shape in shapes]
    row = torch.cat(pieces).index_select(0, back)
    return row[None].to(query.dtype), None


def _attend_rectangle(
    parts: list[Tensor], shape: Rectangle, scaling: float | None, dropout: float, grouped: bool
) -> Tensor:
    """[tokens, heads, width] three times -> the rectangle's real tokens, [real tokens, heads, width]."""
    q, k, v = (
        part.index_select(0, shape.gather).view(shape.count, shape.length, *part.shape[1:]).transpose(1, 2)
        for part in parts
    )
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout, scale=scaling, enable_gqa=grouped)
    flat = out.transpose(1, 2).reshape(shape.count * shape.length, *out.shape[1::2])
    return flat if shape.keep is None else flat.index_select(0, shape.keep)


def _attend_varlen(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float | None, grouped: bool
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    half = query.dtype if query.dtype in (torch.bfloat16, torch.float16) else torch.bfloat16
    q, k, v = (part[0].transpose(0, 1).contiguous().to(half) for part in (query, key, value))
    ends = ends.to(query.device)
    out = varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=grouped)
    assert isinstance(out, Tensor)  # a tuple only when more is asked for
    return out[None].to(query.dtype)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _no_mask)
