"""Every piece of PPO's arithmetic against a loop that does it the plain way, one number after the other."""

import math

import pytest
import torch

from medcli.engine import advantages as arithmetic

SEEDS = range(5)


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lengths(seed, answers=6, longest=9):
    return torch.randint(1, longest + 1, (answers,), generator=torch.Generator().manual_seed(seed))


def rows(seed):
    """Answers of several lengths, with rubbish where there is no token."""
    mask = arithmetic.mask_of(lengths(seed))
    return drawn(seed, *mask.shape), drawn(seed + 100, *mask.shape), mask


def plain_advantages(rewards, values, gamma, gae_lambda):
    """One answer's, by the definition: the sum of all later surprises, each discounted by its distance."""
    ends = [*values, 0.0]
    surprises = [reward + gamma * ends[t + 1] - ends[t] for t, reward in enumerate(rewards)]
    return [
        sum((gamma * gae_lambda) ** (later - t) * surprises[later] for later in range(t, len(rewards)))
        for t in range(len(rewards))
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_advantages(seed, gamma, gae_lambda):
    rewards, values, mask = rows(seed)
    found = arithmetic.advantages(rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda)
    for row, count in enumerate(mask.sum(1).tolist()):
        wanted = plain_advantages(rewards[row, :count].tolist(), values[row, :count].tolist(), gamma, gae_lambda)
        assert found[row, :count].tolist() == pytest.approx(wanted, abs=1e-12)
        assert not found[row, count:].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_over_whole_answers_an_advantage_is_what_came_less_what_was_expected(seed):
    rewards, values, mask = rows(seed)
    found = arithmetic.advantages(rewards, values, mask, gamma=1.0, gae_lambda=1.0)
    to_come = (rewards * mask).flip(1).cumsum(1).flip(1)
    assert torch.allclose(found[mask], (to_come - values)[mask])


@pytest.mark.parametrize("seed", SEEDS)
def test_divergences(seed):
    new, old = drawn(seed, 50), drawn(seed + 1, 50)
    for a, b, one, two, three in zip(
        new.tolist(),
        old.tolist(),
        arithmetic.k1(new, old).tolist(),
        arithmetic.k2(new, old).tolist(),
        arithmetic.k3(new, old).tolist(),
        strict=True,
    ):
        assert one == pytest.approx(a - b)
        assert two == pytest.approx(0.5 * (a - b) ** 2)
        assert three == pytest.approx(math.exp(b) / math.exp(a) - 1 - math.log(math.exp(b) / math.exp(a)))
        assert two >= 0
        assert three >= -1e-12


def test_the_unbiased_divergences_have_the_true_mean():
    """Over all outcomes, each with its probability under the new distribution."""
    new, old = (drawn(seed, 40).log_softmax(0) for seed in (1, 2))
    true = float((new.exp() * (new - old)).sum())
    assert float((new.exp() * arithmetic.k1(new, old)).sum()) == pytest.approx(true)
    assert float((new.exp() * arithmetic.k3(new, old)).sum()) == pytest.approx(true)


@pytest.mark.parametrize("seed", SEEDS)
def test_whitened(seed):
    values, _, mask = rows(seed)
    found = arithmetic.whitened(values * 7 + 3, mask)
    tokens = [value for row, some in zip((values * 7 + 3).tolist(), mask.tolist(), strict=True)
              for value, there in zip(row, some, strict=True) if there]  # fmt: skip
    mean = sum(tokens) / len(tokens)
    deviation = math.sqrt(sum((token - mean) ** 2 for token in tokens) / len(tokens))
    assert found[mask].tolist() == pytest.approx([(token - mean) / deviation for token in tokens], abs=1e-7)
    assert float(found[mask].mean()) == pytest.approx(0, abs=1e-9)
    assert float(found[mask].var(correction=0)) == pytest.approx(1, abs=1e-6)
    assert not found[~mask].any()


def test_what_is_all_alike_is_white_as_zero():
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert not arithmetic.whitened(torch.full((2, 3), 5.0), mask).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_policy_loss_and_what_is_clipped(seed):
    new, old, gains = drawn(seed, 60) / 3, drawn(seed + 1, 60) / 3, drawn(seed + 2, 60)
    found, moved = arithmetic.policy_loss(new, old, gains, 0.2), arithmetic.clipped(new, old, 0.2)
    for a, b, gain, loss, far in zip(*(part.tolist() for part in (new, old, gains, found, moved)), strict=True):
        ratio = math.exp(a) / math.exp(b)
        held = min(max(ratio, 0.8), 1.2)
        assert loss == pytest.approx(-min(ratio * gain, held * gain))
        assert far == (abs(ratio - 1) > 0.2)


def test_a_token_that_has_moved_far_enough_is_pushed_no_further():
    old = torch.zeros(4, dtype=torch.float64)
    new = torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=torch.float64, requires_grad=True)
    gains = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    arithmetic.policy_loss(new, old, gains, 0.2).sum().backward()
    assert (new.grad != 0).tolist() == [False, True, True, False]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("clip", [0.0, 0.2])
def test_value_loss(seed, clip):
    new, old, returns = drawn(seed, 60), drawn(seed + 1, 60), drawn(seed + 2, 60)
    found = arithmetic.value_loss(new, old, returns, clip)
    for a, b, wanted, loss in zip(*(part.tolist() for part in (new, old, returns, found)), strict=True):
        held = min(max(a, b - clip), b + clip) if clip else a
        assert loss == pytest.approx(max((a - wanted) ** 2, (held - wanted) ** 2) / 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_rewards_of_tokens(seed):
    log_ratios, _, mask = rows(seed)
    rewards = drawn(seed + 3, len(mask))
    found = arithmetic.token_rewards(rewards, log_ratios, mask, 0.3)
    for row, count in enumerate(mask.sum(1).tolist()):
        wanted = [-0.3 * ratio for ratio in log_ratios[row, :count].tolist()]
        wanted[-1] += float(rewards[row])
        assert found[row, :count].tolist() == pytest.approx(wanted)
        assert not found[row, count:].any()


def test_an_answer_without_an_end_costs_and_rewards_are_cut():
    scores, ended = torch.tensor([3.0, 3.0, 50.0, -50.0]), torch.tensor([True, False, True, False])
    assert arithmetic.judged(scores, ended, penalty=1.0, clip=10.0).tolist() == [3.0, 2.0, 10.0, -10.0]
    assert arithmetic.judged(scores, ended, penalty=1.0, clip=0.0).tolist() == [3.0, 2.0, 50.0, -51.0]


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_hold_the_tokens_in_their_order(seed):
    counts = lengths(seed)
    mask = arithmetic.mask_of(counts)
    flat = drawn(seed, int(counts.sum()))
    found = arithmetic.in_rows(flat, mask)
    assert mask.sum(1).tolist() == counts.tolist()
    assert torch.equal(found[mask], flat)
    assert found[0, : counts[0]].tolist() == flat[: counts[0]].tolist()
    assert not found[~mask].any()


@pytest.mark.parametrize(("kl", "factor"), [(6.0, 1.0), (6.6, 1.01), (5.4, 0.99), (60.0, 1.02), (-1.0, 0.98)])
def test_the_weight_of_the_divergence_follows_it(kl, factor):
    """Ziegler et al. 2019: by a tenth of the relative error, which counts up to a fifth."""
    assert arithmetic.adapted(0.2, kl, 6.0) == pytest.approx(0.2 * factor)


def test_without_a_target_the_weight_stays():
    assert arithmetic.adapted(0.2, 60.0, 0.0) == 0.2
