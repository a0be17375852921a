"""Cross-entropy of the labelled positions only, with the gradient formed in the forward.

Full logits of a 150,000-word vocabulary cost 1.2 GB for 2,048 tokens, several times over. Here the head is applied to
the labelled positions alone, in chunks; a chunk's logits are turned into its gradient at once and dropped, so nothing
as wide as the vocabulary is kept for the backward (Liger's way). Equal to the plain loss to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK = 1024  # labelled positions whose logits exist at one time


class _CrossEntropy(torch.autograd.Function):
    """Summed loss of hidden [n, width] under weight [vocabulary, width] and bias, for targets [n].

    With a `cap` the logits are cap * tanh(logits / cap), as Gemma 2 has them.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None
    ) -> Tensor:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        cast = weight.to(hidden.dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        bias_gradient = torch.zeros_like(bias, dtype=torch.float32) if wants_bias and bias is not None else None
        for start in range(0, len(targets), CHUNK):
            piece, target = hidden[start : start + CHUNK], targets[start : start + CHUNK]
            logits = (piece @ cast.t() if bias is None else torch.addmm(bias.to(piece.dtype), piece, cast.t())).float()
            logits = logits if cap is None else cap * torch.tanh(logits / cap)
            total += (logits.logsumexp(-1) - logits.gather(1, target[:, None])[:, 0]).sum()
            if not any(ctx.needs_input_grad):
                continue
            gradient = logits.softmax(-1)
            gradient[torch.arange(len(target), device=target.device), target] -= 1
            gradient = gradient if cap is None else gradient * (1 - (logits / cap).square())
            if bias_gradient is not None:
                bias_gradient += gradient.sum(0)
            gradient = gradient.to(cast.dtype)
            if hidden_gradient is not None:
                hidden_gradient[start : start + CHUNK] = gradient @ cast
            if weight_gradient is not None:
                weight_gradient += gradient.t() @ piece
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        return (
            None if hidden is None else hidden * upstream.to(hidden.dtype),
            None if weight is None else weight * upstream,
            None if bias is None else bias * upstream,
            None,
            None,
        )


def cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, cap: float | None = None
) -> Tensor:
    """The summed cross-entropy. hidden: [n, width]; weight: [vocabulary, width]; targets: [n] without -100.

    With no target it is zero but still connected to the graph: a process without labels must not hang the others.
    """
    if len(targets) == 0:
        learns = [part for part in (hidden, weight, bias) if part is not None and part.requires_grad]
        return sum((part.sum() for part in learns), torch.zeros((), device=hidden.device)) * 0.0
    dtype = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else None
    hidden = hidden.to(dtype) if dtype else hidden
    loss: Tensor = _CrossEntropy.apply(hidden, weight, bias, targets, cap)  # type: ignore[no-untyped-call]
    return loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last layer of a language model; logits are bent by cap * tanh(logits / cap) where there is a cap."""

    module: Any  # its weight is looked up when it is needed: sharding puts another in its place
    cap: float | None

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self.module.weight
        return weight

    @property
    def bias(self) -> Tensor | None:
        bias: Tensor | None = self.module.bias
        return bias


@contextmanager
def head_apart(model: Any) -> Iterator[Head]:
    """Within the block the causal language model gives hidden states where it gave logits; who calls it has the head.

    The head stays where it is, under its own name, and hands on what it is given.
    """
    head = model.get_output_embeddings()
    text = model.config.get_text_config()
    cap = text.to_dict().get("final_logit_softcapping")  # Gemma 2 and others; laid on after the head, so by the caller
    if cap is not None:
        text.final_logit_softcapping = None
    before = head.__dict__.get("forward")  # what accelerate or peft laid around it
    head.forward = _handed_on
    try:
        yield Head(module=head, cap=cap)
    finally:
        del head.forward
        if before is not None:
            head.forward = before
        if cap is not None:
            text.final_logit_softcapping = cap


@contextmanager
def head_in_loss(model: Any) -> Iterator[None]:
    """Within the block the causal language model takes its loss by `cross_entropy`, through its own forward.

    Batches must carry `shift_labels` and pick the labelled positions by `logits_to_keep` (see `engine/pack.py`).
    """

    def loss(
        logits: Tensor,
        labels: Tensor,
        vocab_size: int | None = None,  # some models give it by place
        *,
        shift_labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> Tensor:
        hidden = logits.reshape(-1, logits.shape[-1])
        total = cross_entropy(hidden, head.weight, shift_labels.reshape(-1), head.bias, head.cap)
        return total / (num_items_in_batch if num_items_in_batch is not None else max(shift_labels.numel(), 1))

    with head_apart(model) as head:
        model.loss_function = loss
        try:
            yield
        finally:
            del model._loss_function


@contextmanager
def head_itself(model: Any) -> Iterator[None]:
    """Within the block the head of a model under `head_in_loss` gives logits again (uncapped: their order is right)."""
    head = model.get_output_embeddings()
    replaced = head.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if replaced is not None:
            head.forward = replaced


def _handed_on(hidden: Tensor) -> Tensor:
    return hidden
