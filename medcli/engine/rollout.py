"""Answers drawn from a model that learns: sampled in batches, by random numbers of each prompt's own."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache

from medcli.core.batches import batches
from medcli.core.errors import ModelError
from medcli.engine import attention
from medcli.engine.loaded import Loaded

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(slots=True, kw_only=True)
class Drawn:
    """An answer's ids, with the stop word at their end when it has `ended`; else its length was at an end."""

    ids: list[int]
    ended: bool


def draw(
    loaded: Loaded,
    prompts: Sequence[numpy.ndarray],
    *,
    max_tokens: int,
    temperature: float,
    generator: torch.Generator,
    batch: int,
    precision: str,
    advance: Callable[[int], None],
) -> list[Drawn]:
    """One answer to each of `prompts`, arrays of ids, in their order; `advance` hears how many are done.

    Each token is chosen by a number that was drawn for its prompt and place, so the answers follow from the state of
    `generator` alone, whatever `batch` is (but for rounding). Temperature 0 takes the likeliest token. `precision` is
    "fp32", "bf16" or "fp16". The active adapters speak; the head must be the model's own (not under `head_apart`).

    Raises ModelError for a model that keeps no cache of keys and values, and for a prompt as long as its context.
    """
    _check(loaded, prompts)
    # In (0, 1], so that what is never likely is never chosen.
    chances = 1 - torch.rand(len(prompts), max_tokens, generator=generator, device=generator.device)
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), prompts[index].tobytes()))
    answers = [Drawn(ids=[], ended=False) for _ in prompts]
    done = 0
    with _speaking(loaded, precision):
        for rows in batches(order, batch):
            _answer(loaded, [prompts[row] for row in rows], [answers[row] for row in rows], chances[rows], temperature)
            advance(done := done + len(rows))
    return answers


def _check(loaded: Loaded, prompts: Sequence[numpy.ndarray]) -> None:
    if loaded.causal_lm._is_stateful or loaded.prefix:
        raise ModelError(
            f"{loaded.base} cannot draw answers in batches: it keeps more than keys and values of each token",
            hint="take a base of attention layers alone, such as Qwen or Llama, without a tuned prefix",
        )
    longest = max(map(len, prompts), default=0)
    if loaded.context is not None and longest >= loaded.context:
        raise ModelError(
            f"a prompt has {longest} tokens, the model reads at most {loaded.context}",
            hint="lower --max-length, or take a model with a longer context",
        )


@contextmanager
def _speaking(loaded: Loaded, precision: str) -> Iterator[None]:
    """The model as it speaks: plain attention, no dropout, no gradients (inference tensors could reach its buffers)."""
    model, device, was_training = loaded.model, loaded.device, loaded.model.training
    dtype = _DTYPES.get(precision)
    model.eval()
    try:
        with (
            torch.no_grad(),
            torch.autocast(device.type, dtype, dtype is not None),
            attention.own(loaded.causal_lm),
            _head_cast(loaded.causal_lm, dtype),
        ):
            yield
    finally:
        model.train(was_training)


@contextmanager
def _head_cast(model: Any, dtype: torch.dtype | None) -> Iterator[None]:
    """Within the block the head is held in `dtype`; autocast would cast a frozen one anew for every token."""
    head = model.get_output_embeddings()
    is_plain = type(head) is nn.Linear and "forward" not in head.__dict__
    if dtype is None or not is_plain:
        yield
        return
    head.forward = partial(F.linear, weight=head.weight.to(dtype), bias=head.bias)
    try:
        yield
    finally:
        del head.forward


def _answer(
    loaded: Loaded, prompts: Sequence[numpy.ndarray], answers: Sequence[Drawn], chances: Tensor, temperature: float
) -> None:
    """Fill `answers`, one a prompt. chances: [prompts, tokens]. A row that is at its end leaves the batch."""
    rows = _Rows(loaded, prompts)
    chances = chances.to(loaded.device)
    live = list(range(len(prompts)))
    rooms = [_room(loaded, prompt, chances.shape[1]) for prompt in prompts]
    for step in range(chances.shape[1]):
        tokens = choose(rows.logits, chances[live, step], temperature)
        stay = []
        for place, (row, token) in enumerate(zip(live, tokens.tolist(), strict=True)):
            answers[row].ids.append(token)
            answers[row].ended = token in loaded.stops
            if not answers[row].ended and step + 1 < rooms[row]:
                stay.append(place)
        if not stay:
            return
        if len(stay) < len(live):
            live, tokens = [live[place] for place in stay], tokens[stay]
            rows.keep(torch.tensor(stay, device=loaded.device))
        rows.read(tokens)


def _room(loaded: Loaded, prompt: numpy.ndarray, most: int) -> int:
    return most if loaded.context is None else min(most, loaded.context - len(prompt))


def choose(logits: Tensor, chances: Tensor, temperature: float) -> Tensor:
    """A token of each row of logits [rows, vocabulary]: the first that brings the summed shares to `chances` [rows]."""
    if temperature == 0:
        return logits.argmax(-1)
    reached = (logits.float() / temperature).softmax(-1).cumsum(-1)
    return torch.searchsorted(reached, chances[:, None] * reached[:, -1:]).squeeze(-1)


class _Rows:
    """The rows of a batch, each read up to its next token, whose logits [rows, vocabulary] are at hand."""

    def __init__(self, loaded: Loaded, prompts: Sequence[numpy.ndarray]) -> None:
        """Read the prompts, equal ones once."""
        self._model = loaded.causal_lm
        self._last = {"logits_to_keep": 1} if self._model._supports_logits_to_keep() else {}
        self._has_positions = "position_ids" in inspect.signature(self._model.forward).parameters
        self._cache = DynamicCache(config=self._model.config)
        alone = {prompt.tobytes(): prompt for prompt in prompts}
        longest = max(map(len, prompts))
        ids = torch.full((len(alone), longest), loaded.stops[0], device=loaded.device)
        self._mask = torch.zeros_like(ids)
        for row, prompt in enumerate(alone.values()):
            ids[row, longest - len(prompt) :] = torch.from_numpy(prompt)
            self._mask[row, longest - len(prompt) :] = 1
        self.logits = self._forward(ids, (self._mask.cumsum(1) - 1).clamp(min=0))
        if len(alone) < len(prompts):
            which = {key: row for row, key in enumerate(alone)}
            self.keep(torch.tensor([which[prompt.tobytes()] for prompt in prompts], device=loaded.device))

    def keep(self, rows: Tensor) -> None:
        """Only these rows, in this order, from now on."""
        self._cache.reorder_cache(rows)
        self._mask, self.logits = self._mask[rows], self.logits[rows]

    def read(self, tokens: Tensor) -> None:
        """Go on by one token a row, [rows]."""
        positions = self._mask.sum(1, keepdim=True)
        self._mask = torch.cat([self._mask, torch.ones_like(positions)], 1)
        self.logits = self._forward(tokens[:, None], positions)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        where = {"position_ids": positions} if self._has_positions else {}
        out = self._model(
            input_ids=ids, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, **where, **self._last
        )
        logits: Tensor = out.logits[:, -1]
        return logits
