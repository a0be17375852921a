"""The frozen layers below the lowest one that learns: skip them, and know whether they can be skipped.

What such a trunk gives for an example is the same in every epoch, so its layers may hand on what they get, and the last
one return what was computed before. Embeddings and positions are still formed, as the architecture wills.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from medcli.core.train_settings import TrainSettings
from medcli.engine.loaded import Loaded
from medcli.engine.loss import head_in_loss
from medcli.engine.pack import Batch, Example, on_device, padded, side_by_side
from medcli.engine.train_arguments import precision_of

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trunk:
    """The lowest layers of a model; for one forward their outcome can be taken, or given instead of computed."""

    def __init__(self) -> None:
        self._take: Callable[[Tensor], None] | None = None
        self._give: Callable[[Tensor], Tensor] | None = None

    def next(
        self, *, take: Callable[[Tensor], None] | None = None, give: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """In the next forward `take` gets the trunk's hidden states; or `give`, given the embeddings, returns them."""
        self._take, self._give = take, give

    def wrap(self, compute: Callable[..., Any], *, is_last: bool) -> Callable[..., Any]:
        """The forward of a layer that computes, or hands on, or, being the last, returns what is given."""
        beside: int | None = None  # how much the layer returns after the hidden states, in a tuple; None: no tuple

        def forward(*arguments: Any, **keywords: Any) -> Any:
            nonlocal beside
            if self._give is None:
                out = compute(*arguments, **keywords)
                beside = len(out) - 1 if isinstance(out, tuple) else None
                if is_last and self._take is not None:
                    take, self._take = self._take, None
                    take(out[0] if isinstance(out, tuple) else out)
                return out
            hidden = arguments[0] if arguments else keywords["hidden_states"]
            if is_last:
                give, self._give = self._give, None
                hidden = give(hidden)
            return hidden if beside is None else (hidden, *[None] * beside)

        return forward


@contextmanager
def skippable(layers: Sequence[nn.Module]) -> Iterator[Trunk]:
    """Within the block `layers` can be skipped by the Trunk given; the modules keep their places and names."""
    trunk = Trunk()
    for layer in layers:
        layer.__dict__["forward"] = trunk.wrap(layer.forward, is_last=layer is layers[-1])
    try:
        yield trunk
    finally:
        for layer in layers:
            del layer.__dict__["forward"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Why the trunk cannot be skipped, or "", and the width and precision of its hidden states."""

    reason: str
    width: int
    dtype: torch.dtype


@torch.no_grad()
def try_out(trunk: Trunk, loaded: Loaded, examples: Sequence[Example], settings: TrainSettings) -> Trial:
    """Compare a forward that skips the trunk with a plain one, and an example's rows with its own alone in training.

    Differences of the first kind come from layers that share more than hidden states (keys and values), those of the
    second from dropout, or from neighbours in the batch.
    """
    precision, model, found = precision_of(settings, loaded.device), loaded.model, list[Tensor]()
    places, alone = places_of(examples, settings.packing), places_of(examples[-1:], settings.packing)

    def stored(hidden: Tensor) -> Tensor:
        rows = torch.zeros_like(found[0])
        for place in places:
            rows[place] = found[0][place]
        return rows

    autocast = torch.autocast(loaded.device.type, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST)
    seeds = torch.random.fork_rng([loaded.device] if loaded.device.type == "cuda" else [])
    with head_in_loss(model), autocast, seeds:
        trunk.next(take=found.append)
        plain = _last_states(loaded, examples, settings.packing)
        trunk.next(give=stored)
        try:
            skipped = _last_states(loaded, examples, settings.packing)
        except (LookupError, TypeError, AttributeError):  # a layer above misses what one below did not hand on
            skipped = torch.zeros_like(plain)
        model.train()
        trunk.next(take=found.append)
        _last_states(loaded, examples[-1:], settings.packing)
        model.eval()
    tolerance = 1e-3 if precision == "fp32" else 2e-2
    reason = ""
    if not _alike(plain, skipped, tolerance):
        reason = "the layers of this architecture share more than hidden states"
    elif not _alike(found[0][places[-1]], found[1][alone[-1]], tolerance):
        reason = "what they give for a sample differs by dropout, or by the samples beside it"
    return Trial(reason=reason, width=found[0].shape[-1], dtype=found[0].dtype)


def _last_states(loaded: Loaded, examples: Sequence[Example], packing: bool) -> Tensor:
    """What the model hands to its head, at labelled positions of a row or at all real ones: [positions, width]."""
    batch: Batch = side_by_side(examples) if packing else padded(examples, 0)
    unlabelled = {name: value for name, value in batch.items() if name not in ("labels", "shift_labels", "use_cache")}
    out: Tensor = loaded.model(**on_device(unlabelled, loaded.device), use_cache=False).logits
    return out[0] if packing else out[batch["attention_mask"].bool().to(out.device)]


def _alike(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether 99 of 100 numbers agree. A few outliers, a thousand times the rest, must not set the scale."""
    one, other = one.float(), other.float()
    close = torch.isclose(one, other, rtol=tolerance, atol=tolerance * float(one.abs().median()))
    return bool(close.float().mean() >= 0.99)


def places_of(examples: Sequence[Example], packing: bool) -> list[tuple[int, slice]]:
    """Where each example lies in a batch: its row, and its positions there."""
    lengths = [len(example.ids) for example in examples]
    if not packing:
        return [(row, slice(0, length)) for row, length in enumerate(lengths)]
    ends = numpy.cumsum(lengths).tolist()
    return [(0, slice(end - length, end)) for end, length in zip(ends, lengths, strict=True)]
