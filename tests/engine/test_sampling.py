"""Tokens are drawn as the definitions say: against a twin that sorts the whole vocabulary, and by counting."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from medcli.core.speaker import Sampling
from medcli.engine import sampling
from medcli.engine.sampling import choose, draw, penalised


def speech(how, prompt=(), said=()):
    generator = torch.Generator().manual_seed(how.seed)
    return SimpleNamespace(
        sampling=how,
        prompt=list(prompt),
        said=list(said),
        counts=Counter(said),
        chance=lambda: float(torch.rand((), generator=generator, dtype=torch.double)),
    )


def tokens(logits, how, times):
    """The same logits in so many rows, each with the next number of one generator."""
    one = speech(how)
    return [chosen.token for chosen in choose(torch.tensor([logits]).expand(times, -1), [one] * times)]


def shares(logits, how):
    """Every token's probability by the plain way: temperature, top_k, top_p, over the whole sorted vocabulary."""
    likely, ids = (torch.tensor(logits, dtype=torch.double) / how.temperature).softmax(-1).sort(descending=True)
    if how.top_k:
        likely[how.top_k :] = 0
        likely = likely / likely.sum()
    likely[(likely.cumsum(0) - likely) >= how.top_p] = 0
    return dict(zip(ids.tolist(), (likely / likely.sum()).tolist(), strict=True))


def test_temperature_zero_is_greedy():
    """An older tool's `temperature or default` turned 0 into its default."""
    assert set(tokens([1.0, 3.0, 2.9], Sampling(temperature=0), 50)) == {1}
    assert set(tokens([1.0, 3.0, 2.9], Sampling(temperature=2.0), 200)) == {0, 1, 2}
    assert set(tokens([1.0, 3.0, 2.9], Sampling(temperature=2.0, top_p=0.01), 50)) == {1}
    assert set(tokens([1.0, 3.0, 2.9], Sampling(temperature=9.0, top_k=2), 200)) == {1, 2}


@pytest.mark.parametrize(
    "how",
    [Sampling(temperature=1.0), Sampling(temperature=0.7, top_p=0.8), Sampling(temperature=1.5, top_k=3, top_p=0.9)],
)
def test_tokens_are_drawn_as_often_as_they_are_likely(how):
    logits = [0.3, 2.0, -1.0, 1.1, 0.9, 1.5]
    times = 20_000
    counts = Counter(tokens(logits, how, times))
    for token, share in shares(logits, how).items():
        assert counts[token] / times == pytest.approx(share, abs=4 * (0.25 / times) ** 0.5)
        assert (counts[token] > 0) == (share > 0)


@pytest.mark.parametrize("how", [Sampling(temperature=1.0, top_p=0.9), Sampling(temperature=2.5, top_p=0.999)])
def test_a_wide_choice_is_drawn_from_the_whole_vocabulary(how):
    """More tokens than are sorted at first, and at the second time; each chance falls where the sorted shares say."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(40, 2 * sampling.WIDENING * sampling.LIKELIEST, generator=generator)
    chances = torch.rand(40, generator=generator, dtype=torch.double)
    found = draw(logits, [how] * 40, chances)
    for row, chance, token in zip(logits, chances.tolist(), found.tolist(), strict=True):
        reached = 0.0
        for expected, share in shares(row.tolist(), how).items():  # noqa: B007
            reached += share
            if reached > chance:
                break
        assert token == expected


def test_rows_do_not_depend_on_each_other():
    logits = torch.randn(3, 900, generator=torch.Generator().manual_seed(1))
    hows = [Sampling(temperature=1.0, seed=1), Sampling(), Sampling(temperature=0.5, top_p=0.5, seed=2)]
    together = [one.token for one in choose(logits, [speech(how) for how in hows])]
    alone = [choose(logits[row : row + 1], [speech(how)])[0].token for row, how in enumerate(hows)]
    assert together == alone


def test_penalties_are_those_of_their_definitions():
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.5], [2.0, -2.0, 1.0, 0.5]])
    hard = Sampling(repetition_penalty=2.0)
    counted = Sampling(frequency_penalty=0.25, presence_penalty=0.5)
    bent = penalised(logits, [speech(hard, prompt=[0], said=[1]), speech(counted, prompt=[0], said=[2, 2, 3])])
    assert bent.tolist() == [[1.0, -4.0, 1.0, 0.5], [2.0, -2.0, 0.0, -0.25]]
    assert logits[0].tolist() == [2.0, -2.0, 1.0, 0.5]
    assert penalised(logits, [speech(Sampling()), speech(Sampling())]) is logits
