"""The next token of each of several answers, every one by settings and chances of its own."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from medcli.core.speaker import Sampling
from medcli.engine.speech import Speech

LIKELIEST = 64  # tokens that are sorted at first: top_p is rarely wider, and sorting all 150,000 is slow
WIDENING = 16  # times as many where those do not suffice


class Chosen(NamedTuple):
    """A token, and the logits [vocabulary] that it was chosen from, before penalties and temperature."""

    token: int
    logits: Tensor


def choose(logits: Tensor, speeches: Sequence[Speech]) -> list[Chosen]:
    """The next token of each speech, from its row of logits [speeches, vocabulary].

    Drawing takes one number of the speech's own generator, so a token does not depend on what is drawn beside it.
    """
    bent = penalised(logits.float(), speeches)
    tokens = bent.argmax(-1)
    drawn = [row for row, speech in enumerate(speeches) if speech.sampling.temperature > 0]
    if drawn:
        chances = torch.tensor([speeches[row].chance() for row in drawn], device=bent.device)
        tokens[drawn] = draw(bent[drawn], [speeches[row].sampling for row in drawn], chances)
    return [Chosen(token, row) for token, row in zip(tokens.tolist(), logits, strict=True)]


def penalised(logits: Tensor, speeches: Sequence[Speech]) -> Tensor:
    """The logits after the penalties of `Sampling`; the same tensor when there are none."""
    bent = logits
    for row, speech in enumerate(speeches):
        how = speech.sampling
        if how.repetition_penalty == 1 and not how.frequency_penalty and not how.presence_penalty:
            continue
        bent = bent.clone() if bent is logits else bent
        if how.repetition_penalty != 1:
            seen = torch.tensor(sorted({*speech.prompt, *speech.said}), device=bent.device)
            found = bent[row, seen]
            bent[row, seen] = torch.where(found > 0, found / how.repetition_penalty, found * how.repetition_penalty)
        if speech.counts:
            said = torch.tensor(list(speech.counts), device=bent.device)
            times = torch.tensor(list(speech.counts.values()), device=bent.device, dtype=bent.dtype)
            bent[row, said] -= how.frequency_penalty * times + how.presence_penalty
    return bent


def draw(logits: Tensor, settings: Sequence[Sampling], chances: Tensor) -> Tensor:
    """A token of each row of logits [rows, vocabulary], by temperature, then top_k, then top_p; chances: [rows].

    The tokens that are left stand by their likelihood, or by their number where none is left out, and the first that
    brings the sum of their shares above the chance is taken.
    """
    heat = torch.tensor([how.temperature for how in settings], device=logits.device)[:, None]
    vocabulary = logits.shape[1]
    tokens = torch.empty(len(settings), dtype=torch.long, device=logits.device)
    open_ones = [row for row, how in enumerate(settings) if how.top_p >= 1 and not how.top_k]
    if open_ones:
        tokens[open_ones] = _draw_among_all(logits[open_ones] / heat[open_ones], chances[open_ones])
    rows = [row for row in range(len(settings)) if row not in open_ones]
    width = min(vocabulary, max([LIKELIEST, *(settings[row].top_k for row in rows)]))
    while rows:
        found, done = _draw_among(logits[rows] / heat[rows], [settings[row] for row in rows], chances[rows], width)
        tokens[rows] = found
        rows = [row for row, enough in zip(rows, done.tolist(), strict=True) if not enough]
        width = min(vocabulary, width * WIDENING)
    return tokens


def _draw_among_all(logits: Tensor, chances: Tensor) -> Tensor:
    """The tokens [rows] of logits [rows, vocabulary] without limits: they need not be sorted, and stand by number."""
    reached = logits.softmax(-1, dtype=torch.double).cumsum(-1)
    place = torch.searchsorted(reached, chances.double()[:, None] * reached[:, -1:], right=True)
    return place.clamp(max=logits.shape[1] - 1)[:, 0]


def _draw_among(logits: Tensor, settings: Sequence[Sampling], chances: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The tokens [rows], drawn among the `width` likeliest, and whether those were enough to be sure of them [rows]."""
    device = logits.device
    values, ids = logits.topk(width)
    limits = torch.tensor([how.top_k or logits.shape[1] for how in settings], device=device)[:, None]
    shares = torch.tensor([how.top_p for how in settings], device=device)[:, None]
    everything = logits.logsumexp(-1, keepdim=True)
    values = values.masked_fill(torch.arange(width, device=device) >= limits, float("-inf"))
    total = torch.where(limits < logits.shape[1], values.logsumexp(-1, keepdim=True), everything)
    likely = (values - total).exp().double()
    before = likely.cumsum(-1) - likely
    kept = likely.masked_fill(before >= shares, 0.0)
    kept[:, 0] = likely[:, 0]
    reached = kept.cumsum(-1)
    mass = torch.minimum(shares[:, 0].double(), torch.ones((), dtype=torch.double, device=device))
    enough = (limits[:, 0] <= width) | (before[:, -1] + likely[:, -1] >= mass) | (width == logits.shape[1])
    place = torch.searchsorted(reached, chances.double()[:, None] * reached[:, -1:], right=True)
    place = place.clamp(max=width - 1)
    return ids.gather(1, place)[:, 0], enough
