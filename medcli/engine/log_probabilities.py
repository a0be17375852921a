"""The log-probability of each answer's token, and the entropy it was chosen from, with gradients formed in the forward.

What preference losses and policies are made of. Like the loss in `engine/loss.py`, nothing as wide as the vocabulary is
kept for the backward: a token's gradient with respect to its hidden state is one vector, made at once and scaled later.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medcli.engine.loss import CHUNK, Head, head_apart
from medcli.engine.pack import IGNORED, Batch, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Of each labelled position, in the order of the examples: its log-probability and the entropy there, [n], in nat.

    The entropy has a gradient only where it was asked for.
    """

    log_probabilities: Tensor
    entropies: Tensor


class _Chosen(torch.autograd.Function):
    """hidden [n, width] under the head -> log-probability and entropy of each target, [2, n]."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        cap: float | None,
        temperature: float,
        learns_entropy: bool,
    ) -> Tensor:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        found = torch.empty(2, len(targets), dtype=torch.float32, device=hidden.device)
        chosen = torch.empty_like(hidden) if wants_hidden else None
        spread = torch.empty_like(hidden) if wants_hidden and learns_entropy else None
        cast = weight.to(hidden.dtype)
        for start in range(0, len(targets), CHUNK):
            here = slice(start, start + CHUNK)
            words, bent = _log_softmax(hidden[here], cast, bias, cap, temperature)
            shares = words.exp()
            found[0, here] = words.gather(1, targets[here, None])[:, 0]
            # Tensors as wide as the vocabulary are what a step holds most of: what is not needed again is written over.
            found[1, here] = -(words.mul_(shares) if spread is None else words * shares).sum(1)
            if spread is not None:
                spread[here] = _of_entropy(shares, words, found[1, here], bent).to(cast.dtype) @ cast
            del words
            if chosen is not None:
                chosen[here] = _of_chosen(shares, targets[here], bent).to(cast.dtype) @ cast
        again = (hidden, weight, bias, targets) if wants_weight or wants_bias else (None, None, None, None)
        ctx.save_for_backward(chosen, spread, *again)
        ctx.cap, ctx.temperature, ctx.learns_entropy = cap, temperature, learns_entropy
        return found

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        chosen, spread, hidden, weight, bias, targets = ctx.saved_tensors
        gradient = None
        if chosen is not None:
            gradient = chosen * upstream[0, :, None].to(chosen.dtype)
        if spread is not None:
            gradient = gradient + spread * upstream[1, :, None].to(spread.dtype)
        of_weight = of_bias = None
        if weight is not None:
            of_weight, of_bias = _of_head(ctx, upstream, hidden, weight, bias, targets)
        return gradient, of_weight, of_bias, None, None, None, None


def _log_softmax(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None, temperature: float
) -> tuple[Tensor, Tensor | float]:
    """Log-probabilities [n, vocabulary] in float32, and how much less the logits move than the head's outcome does."""
    logits = (hidden @ weight.t() if bias is None else torch.addmm(bias.to(hidden.dtype), hidden, weight.t())).float()
    bent: Tensor | float = 1 / temperature
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
        bent = (1 - (logits / cap).square()) / temperature
    return logits.div_(temperature).log_softmax(-1), bent


def _of_chosen(shares: Tensor, targets: Tensor, bent: Tensor | float) -> Tensor:
    """d log p(target) / d the head's outcome, written over `shares`."""
    gradient = shares.neg_()
    gradient[torch.arange(len(targets), device=targets.device), targets] += 1
    return gradient.mul_(bent)


def _of_entropy(shares: Tensor, words: Tensor, entropy: Tensor, bent: Tensor | float) -> Tensor:
    """d entropy / d the head's outcome: -p (log p + H)."""
    return -shares * (words + entropy[:, None]) * bent


def _of_head(
    ctx: Any, upstream: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a head that learns: each token's weigh differently, so the logits are computed once more."""
    of_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
    of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[2] else None
    cast = weight.to(hidden.dtype)
    for start in range(0, len(targets), CHUNK):
        here = slice(start, start + CHUNK)
        words, bent = _log_softmax(hidden[here], cast, bias, ctx.cap, ctx.temperature)
        shares = words.exp()
        of_entropy: Tensor | float = 0.0
        if ctx.learns_entropy:
            entropy = -(shares * words).sum(1)
            of_entropy = _of_entropy(shares, words, entropy, bent) * upstream[1, here, None]
        gradient = _of_chosen(shares, targets[here], bent) * upstream[0, here, None] + of_entropy
        if of_bias is not None:
            of_bias += gradient.sum(0)
        if of_weight is not None:
            of_weight += gradient.to(cast.dtype).t() @ hidden[here]
    return of_weight, of_bias


@contextmanager
def tokens_as_loss(
    model: Any, *, packing: bool, temperature: float = 1.0, learns_entropy: bool = False
) -> Iterator[None]:
    """Within the block `read` gives tokens of the causal language model; rows without padding need `packing`.

    The head is applied inside the model's own forward, at labelled positions alone, so whatever is laid around the
    model sees all that is computed.
    """
    if not packing:
        yield
        return

    def loss(
        logits: Tensor, labels: Tensor, vocab_size: int | None = None, *, shift_labels: Tensor, **_: Any
    ) -> Tensor:
        hidden = logits.reshape(-1, logits.shape[-1])
        return chosen(hidden, head, shift_labels.reshape(-1), temperature, learns_entropy)

    with head_apart(model) as head:
        model.loss_function = loss
        try:
            yield
        finally:
            del model._loss_function


def read(model: Any, batch: Batch, *, temperature: float = 1.0) -> Tokens:
    """One forward of `model`, which may be wrapped, within `tokens_as_loss`; `batch` is a row or is padded."""
    if "shift_labels" in batch:
        found = model(**batch).loss
        return Tokens(log_probabilities=found[0], entropies=found[1])
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    labels = batch["labels"][:, 1:]
    logits = model(**inputs, use_cache=False).logits[:, :-1][labels != IGNORED].float()
    words = (logits / temperature).log_softmax(-1)
    entropies = -(words.exp() * words).sum(-1)
    return Tokens(log_probabilities=words.gather(1, labels[labels != IGNORED][:, None])[:, 0], entropies=entropies)


def counts_of(examples: Sequence[Example], device: torch.device) -> Tensor:
    """How many labelled positions each example has, [examples]: the lengths of what `read` gives."""
    return torch.tensor([int(example.trained[1:].sum()) for example in examples], device=device)


def summed(values: Tensor, counts: Tensor) -> Tensor:
    """The sum of `values` [n] over each example, [examples]."""
    which = torch.repeat_interleave(torch.arange(len(counts), device=values.device), counts, output_size=len(values))
    return torch.zeros(len(counts), dtype=values.dtype, device=values.device).index_add(0, which, values)


def chosen(hidden: Tensor, head: Head, targets: Tensor, temperature: float, learns_entropy: bool) -> Tensor:
    """Of each target, [n], its log-probability and the entropy there, [2, n]; hidden [n, width] is before the head."""
    dtype = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else None
    hidden = hidden.to(dtype) if dtype else hidden
    found: Tensor = _Chosen.apply(hidden, head.weight, head.bias, targets, head.cap, temperature, learns_entropy)  # type: ignore[no-untyped-call]
    return found
