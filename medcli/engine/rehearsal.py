"""A training step without numbers: torch's fake tensors have shapes and no memory, but the model's own code runs.

Every storage that the step would hold is counted when it is made and when it is dropped, and every product's
operations. So nothing is derived by hand: what is planned is what architecture, tuner, precision, packing and
checkpointing really do. A model of 7 billion weights takes a few seconds. The fakes lie on a fake CPU, for that is
where torch has one on every machine; attention, which differs, is the device's own in what it keeps.
"""

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from medcli.core.train_settings import TrainSettings
from medcli.engine import attention
from medcli.engine.checkpointing import checkpointed
from medcli.engine.loaded import Loaded
from medcli.engine.loss import CHUNK, head_in_loss
from medcli.engine.objective import Objective
from medcli.engine.pack import Batch, Example, padded, side_by_side

ONE_ROW = "one_row"  # attention that keeps what the GPU's kernel for rows of documents keeps
_READ = 16  # tokens that are read to see what they leave in a cache
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_aten = torch.ops.aten
logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # what it cannot do is raised as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What one forward and backward of a row of `tokens` takes beyond weights and optimizer, in bytes.

    `activations` is what is held when the head begins: kept for the backward, but for `copies`, which are weights cast
    to half precision. `logits` is the most that head and loss add. `peak` is the most held at one time, gradients
    included. `products` and `attention` are floating-point operations of the whole step, one multiply-add counting two.
    """

    tokens: int
    copies: int
    activations: int
    logits: int
    peak: int
    products: int
    attention: int


def rehearse(
    loaded: Loaded,
    settings: TrainSettings,
    examples: Sequence[Example],
    *,
    precision: str,
    on_gpu: bool,
    objective: Objective | None = None,
    learns: bool = True,
) -> Rehearsal:
    """One step of `loaded`, of which only shapes are used, on a batch of `examples`.

    The loss is the model's own, or the `objective`'s, which must take its tensors to be on the CPU. What does not learn
    is a forward without gradients. With `settings.accumulate` above 1 the gradients of the forward before are there
    already. Raises torch's UnsupportedFakeTensorException and its like for a model whose shapes depend on numbers.
    """
    batch = _batch(examples, settings, objective)
    tokens = batch["input_ids"].numel()
    step = _Step(loaded, HALVES.get(precision), objective, learns=learns)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with ExitStack() as stack:
        one_row = on_gpu and precision in HALVES
        stack.enter_context(_as_trained(loaded, settings, objective, one_row=one_row))
        stack.enter_context(mode)
        stack.callback(attention.forget)  # what is cached while all tensors are fake is fake
        fakes = {name: _fake(weight) for name, weight in [*step.named_parameters(), *step.named_buffers()]}
        if settings.accumulate > 1 and learns:
            for fake in fakes.values():
                fake.grad = torch.empty_like(fake) if fake.requires_grad else None
        given = tree_map_only(Tensor, mode.from_tensor, batch)
        beside = [fake.grad for fake in fakes.values() if fake.grad is not None]
        ledger = stack.enter_context(_Ledger(fakes.values(), beside))
        torch.func.functional_call(step, fakes, (given, ledger))
    carried = sum(gradient.nbytes for gradient in beside)
    return Rehearsal(
        tokens=tokens,
        copies=step.copies,
        activations=step.at_head - step.copies,
        logits=step.forward_peak - step.at_head,
        peak=ledger.peak + carried,
        products=ledger.products,
        attention=ledger.attention,
    )


def cache_bytes(loaded: Loaded, *, precision: str) -> float:
    """What a token of text leaves in the cache of keys and values of `loaded`, of which only shapes are used."""
    reader, half = _Reader(loaded), HALVES.get(precision)
    with ExitStack() as stack:
        stack.enter_context(attention.own(loaded.causal_lm))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None))
        fakes = {name: _fake(weight) for name, weight in [*reader.named_parameters(), *reader.named_buffers()]}
        cache = torch.func.functional_call(reader, fakes, (torch.zeros(1, _READ, dtype=torch.long),))
        return sum(float(part.nbytes) for layer in cache.layers for part in (layer.keys, layer.values)) / _READ


def guessed(loaded: Loaded, settings: TrainSettings, examples: Sequence[Example], *, learns: bool = True) -> Rehearsal:
    """The step of a model that cannot be rehearsed, or a forward alone where nothing learns, by rule of thumb.

    Activations: 34 bytes a token, layer and width (Korthikanti et al. 2022, without the attention matrix), or 2 where
    only the layers' inputs are kept. Products: 2 operations a weight and token forward, 2 backward, 2 where it learns.
    """
    model = loaded.causal_lm
    text = model.config.get_text_config()
    tokens = sum(len(example.ids) for example in examples)
    weights = sum(weight.numel() for weight in model.parameters())
    learning = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    a_layer = 34 * tokens * text.hidden_size
    if not learns:
        return Rehearsal(
            tokens=tokens, copies=0, activations=a_layer, logits=0, peak=a_layer, products=2 * tokens * weights,
            attention=0,
        )  # fmt: skip
    kept = 2 * tokens * text.hidden_size * text.num_hidden_layers + a_layer
    activations = kept if settings.checkpointing else a_layer * text.num_hidden_layers
    logits = 12 * (min(tokens, CHUNK) if settings.packing else tokens) * text.vocab_size
    return Rehearsal(
        tokens=tokens,
        copies=0,
        activations=activations,
        logits=logits,
        peak=activations + logits + 4 * learning,
        products=tokens * (4 * weights + 2 * learning),
        attention=0,
    )


def _batch(examples: Sequence[Example], settings: TrainSettings, objective: Objective | None) -> Batch:
    plain = side_by_side if settings.packing else _padded
    batch = objective.collate(examples) if objective else plain(examples)
    return _with_ends(batch)


def _with_ends(batch: Batch) -> Batch:
    """The batch, and those within it, with the ends of documents as numbers that fake tensors leave alone."""
    batch = {name: _with_ends(part) if isinstance(part, dict) else part for name, part in batch.items()}
    if "cu_seq_lens_q" not in batch:
        return batch
    ends = _Ends(batch["cu_seq_lens_q"].diff().tolist())
    return {**batch, "cu_seq_lens_q": ends, "cu_seq_lens_k": ends}


def _padded(examples: Sequence[Example]) -> Batch:
    return padded(examples, 0)


class _Step(nn.Module):
    """Forward and backward in one call, for the weights are fakes within one call only."""

    def __init__(self, loaded: Loaded, half: torch.dtype | None, objective: Objective | None, *, learns: bool) -> None:
        super().__init__()
        self.model, self._half = loaded.model, half
        self._loaded, self._objective, self._learns = loaded, objective, learns
        self.at_head = self.copies = self.peak_before = self.forward_peak = 0

    def forward(self, batch: Batch, ledger: "_Ledger") -> None:
        def reached(module: nn.Module, inputs: Any) -> None:
            self.at_head, self.copies, self.peak_before = ledger.held, ledger.copied, ledger.peak
            ledger.peak = ledger.held

        before_head = self._loaded.head.register_forward_pre_hook(reached)
        try:
            with (
                torch.autocast("cpu", dtype=self._half or torch.bfloat16, enabled=self._half is not None),
                nullcontext() if self._learns else torch.no_grad(),
            ):
                loss = self._objective.measure(self.model, batch).loss if self._objective else self.model(**batch).loss
        finally:
            before_head.remove()
        self.forward_peak = ledger.peak
        if self._learns:
            loss.backward()
        ledger.peak = max(ledger.peak, self.peak_before)


class _Reader(nn.Module):
    """A forward that keeps what it has read."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        self.model = loaded.model

    def forward(self, ids: Tensor) -> Any:
        return self.model(input_ids=ids, use_cache=True).past_key_values


class _Ends:
    """The ends of a row's documents as attention asks for them; fake tensors have no numbers to give."""

    def __init__(self, lengths: list[int]) -> None:
        self._lengths = lengths

    def diff(self) -> "_Ends":
        return self

    def tolist(self) -> list[int]:
        return self._lengths


class _Ledger(TorchDispatchMode):
    """Counts what storages hold, in bytes, and the operations of matrix products and attention."""

    def __init__(self, weights: Iterable[Tensor], beside: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = {_key(weight): 0 for weight in weights}
        self._sizes = {_key(tensor): 0 for tensor in beside}
        self._copies: dict[int, int] = {}
        self.held = self.peak = self.copied = self.products = self.attention = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in _ATTENTION:
            self.attention += _ATTENTION[packet](*args)
        elif packet in flop_registry:
            self.products += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        is_copy = packet is _aten._to_copy and _key(args[0]) in self._weights
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor, is_copy)
        return out

    def _note(self, tensor: Tensor, is_copy: bool) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._sizes or key in self._weights:
            return
        self._sizes[key] = storage.nbytes()
        self.held += storage.nbytes()
        if is_copy:
            self._copies[key] = storage.nbytes()
            self.copied += storage.nbytes()
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.held -= self._sizes.pop(key)
        self.copied -= self._copies.pop(key, 0)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _fake(weight: Tensor) -> Tensor:
    return torch.empty(weight.shape, dtype=weight.dtype, requires_grad=weight.requires_grad)


@contextmanager
def _as_trained(
    loaded: Loaded, settings: TrainSettings, objective: Objective | None, *, one_row: bool
) -> Iterator[None]:
    """The model as the trainer sets it up, and back again."""
    model = loaded.causal_lm
    with ExitStack() as stack:
        if settings.packing:
            model.set_attn_implementation(ONE_ROW if one_row else attention.NAME)
            stack.callback(model.set_attn_implementation, attention.NAME)
        if objective is not None:
            stack.enter_context(objective.laid_over())
        elif settings.packing:
            stack.enter_context(head_in_loss(model))
        if settings.checkpointing:
            stack.enter_context(checkpointed(loaded))
        loaded.model.train()
        stack.callback(loaded.model.eval)
        yield


def _one_row(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    """All documents as one: a flash kernel keeps query, key, value and outcome, and one number a head and token."""
    query, key, value = (part.transpose(1, 2).contiguous().transpose(1, 2) for part in (query, key, value))
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=query.shape[1] != key.shape[1])
    return out.transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(ONE_ROW, _one_row)
ALL_MASK_ATTENTION_FUNCTIONS.register(ONE_ROW, attention.no_mask)


def _forward_count(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


def _backward_count(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    return int(sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


_ATTENTION: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _forward_count,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_count,
}
