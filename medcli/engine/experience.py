"""What a policy learns from: answers it drew, what they are worth, and how likely each token was."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy
import torch
from torch import Tensor

from medcli.core.alignment_settings import PpoSettings
from medcli.engine import advantages as arithmetic
from medcli.engine.actor import Actor, Answered
from medcli.engine.pack import Example, Prompts
from medcli.engine.rollout import draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Answers and what is known of their tokens before the first update.

    `mask` and all tensors after it are rows [answers, longest]; `scores` [answers] are the judge's own.
    """

    answered: Sequence[Answered]
    scores: Tensor
    mask: Tensor
    old: Tensor
    reference: Tensor
    values: Tensor
    entropies: Tensor

    @property
    def kl(self) -> float:
        """The divergence from the reference, nat an answer."""
        return float(arithmetic.k1(self.old, self.reference).sum(1).mean())

    def figures(self) -> dict[str, float]:
        """What a person wants to know of the answers."""
        return {
            "reward": float(self.scores.mean()),
            "kl": self.kl,
            "entropy": float(self.entropies[self.mask].mean()),
            "response_length": float(self.mask.sum(1).float().mean()),
            "ended": fmean(one.ended for one in self.answered),
        }


def gather(
    actor: Actor, data: Prompts, numbers: Sequence[int], settings: PpoSettings, *, temperature: float, seed: int
) -> Rollout:
    """Answers to the prompts of these numbers, judged; temperature 0 takes the likeliest tokens."""
    drawn = draw(
        actor,
        [data[number].ids for number in numbers],
        max_tokens=settings.max_tokens,
        temperature=temperature,
        generator=torch.Generator(actor.device).manual_seed(seed),
        batch=settings.drawn_together,
        precision=actor.precision,
        advance=_unheard,
    )
    answered = []
    for number, one in zip(numbers, drawn, strict=True):
        prompt = data[number].ids
        ids = numpy.append(prompt, one.ids).astype(numpy.int32)
        example = Example(ids=ids, trained=numpy.arange(len(ids)) >= len(prompt))
        text = actor.tokenizer.decode(one.ids, skip_special_tokens=True).rstrip("\ufffd").lstrip()
        answered.append(Answered(asked=data.asked[number], example=example, ended=one.ended, text=text))
    scores = actor.scores(answered, batch=settings.batch, advance=_unheard)
    return _known(actor, answered, torch.tensor(scores, device=actor.device), settings)


def minibatches_of(examples: Sequence[Example], batch: int, accumulate: int) -> list[list[list[int]]]:
    """The numbers of the answers in each row of each optimizer step; answers of like length share a row."""
    whole, size = range(len(examples)), batch * accumulate
    cut = [sorted(whole[start : start + size], key=lambda n: len(examples[n].ids)) for start in whole[::size]]
    return [[some[start : start + batch] for start in range(0, len(some), batch)] for some in cut]


def _known(actor: Actor, answered: Sequence[Answered], scores: Tensor, settings: PpoSettings) -> Rollout:
    """What policy and reference make of the answers, computed in the rows that are learnt from."""
    examples = [one.example for one in answered]
    counts = torch.tensor([int(example.trained.sum()) for example in examples], device=actor.device)
    mask = arithmetic.mask_of(counts)
    old, reference, values, entropies = (torch.zeros(mask.shape, device=mask.device) for _ in range(4))
    for row in [row for rows in minibatches_of(examples, settings.batch, settings.accumulate) for row in rows]:
        some = [examples[number] for number in row]
        with torch.no_grad():
            own = actor.read(some, temperature=settings.temperature)
        with actor.as_reference():
            theirs = actor.read(some, temperature=settings.temperature)
        old[row] = arithmetic.in_rows(own.log_probabilities, mask[row])
        reference[row] = arithmetic.in_rows(theirs.log_probabilities, mask[row])
        values[row] = arithmetic.in_rows(own.values, mask[row])
        entropies[row] = arithmetic.in_rows(own.entropies, mask[row])
    return Rollout(
        answered=answered, scores=scores, mask=mask, old=old, reference=reference, values=values, entropies=entropies
    )


def _unheard(done: int) -> None:
    return None
