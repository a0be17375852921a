"""What drawing answers and learning from them takes: a policy's step rehearsed, the cache of a rollout, and the judge.

Either answers are drawn or they are learnt from, so the most held at one time is the larger of the two. How long
answers will be is not known: low is half of --max-tokens to an average prompt, expected all of them, high all of them
to the longest prompts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy
import torch

from medcli.core.alignment_settings import RolloutSettings
from medcli.engine.estimate import (
    Estimate,
    Range,
    Target,
    an_epoch,
    beside_bytes,
    exactly,
    gradient_bytes,
    optimizer_bytes,
    step_of,
    total_of,
    weight_bytes,
)
from medcli.engine.loaded import Loaded
from medcli.engine.log_probabilities import chosen
from medcli.engine.loss import head_apart
from medcli.engine.objective import Part
from medcli.engine.pack import Batch, Example, Examples, Prompts, padded, side_by_side
from medcli.engine.rehearsal import HALVES, Rehearsal, cache_bytes

# Of --max-tokens, what an answer has on average, and after how many the last answer of a batch has ended.
OF_TOKENS = (0.25, 0.5, 1.0)
UNTIL_LAST = (0.25, 0.75, 1.0)
# Of a row of logits, what choosing a token holds: the logits, and in float32 themselves, their shares, and their sums.
_OF_CHOICE = 3 * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How a method draws and learns.

    `answers` of a step, of which `together` are drawn at one time; each is read `reads` times with nothing learnt (by
    policy, reference, judge) and learnt from `passes` times. `beside` are bytes that the judge and heads take, of which
    `learning` are numbers of heads that learn.
    """

    answers: int
    together: int
    reads: int
    passes: int
    beside: float = 0.0
    learning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """The rehearsed steps of an average and of a longest row, whether they are guessed, and how they stand apart."""

    short: Rehearsal
    long: Rehearsal
    guessed: bool
    share: float

    def between(self, name: str) -> Range:
        """The figure of both, and of a row of average prompts that are answered at length."""
        low, high = (float(attrgetter(name)(step)) for step in (self.short, self.long))
        return Range(low=low, expected=low + self.share * (high - low), high=high)


def estimate(
    loaded: Loaded,
    settings: RolloutSettings,
    prompts: Prompts,
    drawing: Drawing,
    *,
    quant: str,
    target: Target,
    steps: int,
) -> Estimate:
    """What `steps` steps of a policy take. `loaded` is the model with the policy's adapter."""
    policy = _Policy(loaded, settings)
    found = _steps(loaded, settings, prompts, target, policy)
    held, cache = _held_drawing(loaded, settings, prompts, drawing, target)
    learning = 4 * drawing.learning
    weights, optimizer = weight_bytes(loaded, quant), optimizer_bytes(loaded.model) + 2 * learning
    peak = _larger(found.between("peak") + exactly(learning), held)
    steady = weights + optimizer + drawing.beside + beside_bytes(loaded, settings, quant)
    typical = answered(prompts, settings.max_tokens * OF_TOKENS[1])
    row = _row(prompts, settings, settings.max_tokens * OF_TOKENS[0], longest=False)
    read = step_of(loaded, settings, row, target, policy, learns=False)[0]
    forward, update = (an_epoch(typical, row, step, target) for step in (read, found.short))
    epochs = steps * drawing.answers / len(prompts)
    return Estimate(
        parts=(
            ("weights", exactly(weights)),
            ("judge and heads", exactly(drawing.beside)),
            ("gradients", exactly(gradient_bytes(loaded.model) + learning)),
            ("optimizer", exactly(optimizer)),
            ("activations", found.between("activations") + found.between("copies")),
            ("logits and loss", found.between("logits")),
            ("keys and values of answers", cache),
            ("libraries and context", target.overhead),
        ),
        total=total_of(loaded, steady, peak, target),
        operations=epochs * (drawing.passes * update + (1 + drawing.reads) * forward),
        guessed=found.guessed,
        streamed=_streamed(settings, drawing, weights, cache, steps),
    )


def imitating(loaded: Loaded, settings: RolloutSettings, prompts: Prompts, *, quant: str, target: Target) -> Range:
    """The bytes that learning the same rows by imitation holds at one time; `loaded` has nothing but one adapter."""
    found = _steps(loaded, settings, prompts, target, None)
    steady = weight_bytes(loaded, quant) + optimizer_bytes(loaded.model) + beside_bytes(loaded, settings, quant)
    return total_of(loaded, steady, found.between("peak"), target)


def answered(prompts: Prompts, tokens: float) -> Examples:
    """Each prompt with an answer of so many tokens, which are learnt from."""
    return Examples(_answered(prompts[number], int(tokens)) for number in range(len(prompts)))


def _answered(prompt: Example, tokens: int) -> Example:
    ids = numpy.append(prompt.ids, numpy.zeros(tokens, numpy.int32))
    return replace(prompt, ids=ids, trained=numpy.arange(len(ids)) >= len(prompt.ids))


def _row(prompts: Prompts, settings: RolloutSettings, tokens: float, *, longest: bool) -> list[Example]:
    """The rows of a forward: the longest prompts, or those about the mean, each with an answer of `tokens`.

    Fewer prompts than rows are asked again. All fit into `settings.max_length`.
    """
    lengths = prompts.lengths
    order = lengths.argsort(kind="stable")
    middle = int(lengths[order].searchsorted(lengths.mean()))
    start = len(order) - settings.batch if longest else min(middle - settings.batch // 2, len(order) - settings.batch)
    some = [prompts[int(order[number % len(order)])] for number in range(max(start, 0), max(start, 0) + settings.batch)]
    room = settings.max_length - int(tokens)
    cut = [replace(one, ids=one.ids[-room:], trained=one.trained[-room:]) for one in some]
    return [_answered(one, int(tokens)) for one in cut]


def _steps(
    loaded: Loaded, settings: RolloutSettings, prompts: Prompts, target: Target, policy: "_Policy | None"
) -> _Steps:
    rows = [
        _row(prompts, settings, settings.max_tokens * share, longest=longest)
        for share, longest in ((OF_TOKENS[1], False), (1.0, False), (1.0, True))
    ]
    short, is_guess = step_of(loaded, settings, rows[0], target, policy)
    long, _ = step_of(loaded, settings, rows[2], target, policy)
    tokens = [sum(len(example.ids) for example in row) for row in rows]
    share = (tokens[1] - tokens[0]) / (tokens[2] - tokens[0]) if tokens[2] > tokens[0] else 1.0
    return _Steps(short=short, long=long, guessed=is_guess, share=min(share, 1.0))


def _held_drawing(
    loaded: Loaded, settings: RolloutSettings, prompts: Prompts, drawing: Drawing, target: Target
) -> tuple[Range, Range]:
    """What is held while answers are drawn, and what of it are keys and values."""
    a_token = cache_bytes(loaded, precision=target.precision)
    mean, longest = float(prompts.lengths.mean()), float(prompts.lengths.max())
    tokens = settings.max_tokens
    sizes = Range(low=mean + tokens * OF_TOKENS[1], expected=mean + tokens, high=longest + tokens)
    cache = _times(sizes, a_token * drawing.together)
    words = loaded.model.config.get_text_config().vocab_size
    half = 2 if target.precision in HALVES else 4
    choice = drawing.together * words * (half + _OF_CHOICE)
    wide = replace(settings, batch=drawing.together)
    prompt_row = [replace(one, trained=one.ids < 0) for one in _row(prompts, wide, 0, longest=True)]
    reading = step_of(loaded, settings, prompt_row, target, _Policy(loaded, settings), learns=False)[0].peak
    return cache + exactly(float(max(choice, reading))), cache


def _streamed(settings: RolloutSettings, drawing: Drawing, weights: float, cache: Range, steps: int) -> Range:
    """Each token of a batch has all weights pass by, and the keys and values so far: half of them, on the whole."""
    batches = steps * -(-drawing.answers // drawing.together)
    low, expected, high = (batches * settings.max_tokens * share for share in UNTIL_LAST)
    return Range(
        low=low * (weights + cache.low / 2),
        expected=expected * (weights + cache.expected / 2),
        high=high * (weights + cache.high / 2),
    )


def _larger(one: Range, other: Range) -> Range:
    return Range(
        low=max(one.low, other.low), expected=max(one.expected, other.expected), high=max(one.high, other.high)
    )


def _times(one: Range, factor: float) -> Range:
    return Range(low=one.low * factor, expected=one.expected * factor, high=one.high * factor)


class _Policy:
    """A policy's forward and backward as far as memory and operations go: words' probabilities, and a value of each.

    Padded rows have a value and probabilities at every position here, where in truth the answers' alone have them.
    """

    together = 1

    def __init__(self, loaded: Loaded, settings: RolloutSettings) -> None:
        self._model, self._settings = loaded.causal_lm, settings
        self._width = loaded.head.in_features

    @contextmanager
    def laid_over(self) -> Iterator[None]:
        with head_apart(self._model) as self._head:
            yield

    def collate(self, examples: Sequence[Example]) -> Batch:
        batch = side_by_side(examples) if self._settings.packing else {**padded(examples, 0), "use_cache": False}
        labels = batch.pop("labels")
        return {**batch, "shift_labels": labels.clamp(min=0)}

    def count(self, examples: Sequence[Example]) -> int:
        return len(examples)

    def measure(self, model: Any, batch: Batch) -> Part:
        targets = batch["shift_labels"].flatten()
        inputs = {name: part for name, part in batch.items() if name != "shift_labels"}
        hidden = model(**inputs).logits.reshape(-1, self._width)
        found = chosen(hidden, self._head, targets, self._settings.temperature, learns_entropy=False)
        value = torch.zeros(self._width, requires_grad=torch.is_grad_enabled())
        return Part(loss=found[0].sum() + (hidden.float() @ value).sum(), count=len(targets))
