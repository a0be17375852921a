"""Preference losses against TRL's own and against the papers' formulas in 64 bits, gradients included."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from medcli.core.alignment_settings import DpoSettings
from medcli.engine import preference_losses as losses

BETAS = (0.1, 0.7)
POLICY = torch.randn(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
MEANS = -torch.rand(2, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 4 - 1e-3


@pytest.fixture(scope="module")
def trl():
    """TRL's trainers whose losses are functions of log-probabilities, which it calls experimental in a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.cpo import CPOTrainer
        from trl.experimental.orpo import ORPOTrainer
    return SimpleNamespace(cpo=CPOTrainer.cpo_loss, orpo=ORPOTrainer.odds_ratio_loss)


def rival(**values):
    """What those functions read of their trainer."""
    shared = {"alpha": 0.0, "label_smoothing": 0.0, "accelerator": SimpleNamespace(device=torch.device("cpu"))}
    return SimpleNamespace(**shared | values)


def assert_same(ours, theirs, values, exact=1e-5):
    """Two losses of [2, pairs] and their gradients."""
    found = []
    for loss in (ours, theirs):
        scores = values.clone().requires_grad_(True)
        each = loss(*scores)
        each.sum().backward()
        found.append((each.detach(), scores.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=exact, atol=exact)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sigmoid_is_trls(trl, beta, smoothing):
    of_trl = rival(loss_type="sigmoid", beta=beta, label_smoothing=smoothing)
    assert_same(
        lambda one, two: losses.sigmoid(one, two, beta=beta, label_smoothing=smoothing),
        lambda one, two: trl.cpo(of_trl, one, two)[0],
        POLICY,
    )


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", ["hinge", "ipo"])
def test_hinge_and_ipo_are_trls(trl, beta, name):
    ours = {"hinge": losses.hinge, "ipo": losses.ipo}[name]
    of_trl = rival(loss_type=name, beta=beta)
    assert_same(lambda one, two: ours(one, two, beta=beta), lambda one, two: trl.cpo(of_trl, one, two)[0], POLICY)


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_simpo_is_trls(trl, margin):
    of_trl = rival(loss_type="simpo", beta=2.0, simpo_gamma=margin)
    assert_same(
        lambda one, two: losses.simpo(one, two, beta=2.0, target_margin=margin),
        lambda one, two: trl.cpo(of_trl, one, two)[0],
        MEANS,
    )


@pytest.mark.parametrize("beta", BETAS)
def test_orpo_is_trls(trl, beta):
    of_trl = rival(beta=beta)
    assert_same(
        lambda one, two: losses.orpo(one, two, beta=beta),
        lambda one, two: -one - trl.orpo(of_trl, one, two)[0],
        MEANS.float(),
    )


def test_orpo_is_exact_at_both_ends():
    """An answer that is nearly certain, and one that is nearly impossible, by the formula in 64 bits."""
    values = torch.tensor([[-1e-4, -0.5, -0.6931, -0.7, -40.0], [-30.0, -0.69, -0.70, -1e-3, -2e-5]])

    def plain(chosen, rejected):
        one, two = (value - torch.log(1 - torch.exp(value)) for value in (chosen.double(), rejected.double()))
        return (-chosen.double() - 0.3 * torch.log(torch.sigmoid(one - two))).float()

    assert_same(lambda one, two: losses.orpo(one, two, beta=0.3), plain, values, exact=1e-4)


def test_orpo_of_a_certain_answer_is_a_number():
    scores = torch.tensor([[0.0, -1.0], [-1.0, 0.0]], requires_grad=True)
    each = losses.orpo(*scores, beta=0.1)
    each.sum().backward()
    assert torch.isfinite(each).all()
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("beta", BETAS)
def test_kto_is_the_papers(beta):
    """Kahneman and Tversky's value of gain and loss, by the logistic function written out."""

    def plain(chosen, rejected):
        value = [1 / (1 + torch.exp(-beta * gain)) for gain in (chosen - 0.4, 0.4 - rejected)]
        return torch.stack([1 - one for one in value]).mean(0)

    divergence = torch.tensor(0.4, dtype=torch.float64)
    assert_same(lambda one, two: losses.kto(one, two, beta=beta, divergence=divergence), plain, POLICY)


def test_the_divergence_is_never_negative_and_has_no_gradient():
    scores = torch.tensor([1.0, 2.0, -0.5], requires_grad=True)
    found = losses.divergence_of(scores)
    assert float(found) == pytest.approx(2.5 / 3)
    assert not found.requires_grad
    assert losses.divergence_of(-scores) == 0


def test_smoothing_bounds_the_loss():
    """It is ln 2 for a tie whatever the smoothing, never below the entropy of the share, and grows past the optimum."""
    share = 0.2
    apart = torch.linspace(-20, 20, 401)
    each = losses.sigmoid(apart, torch.zeros(401), beta=1.0, label_smoothing=share)
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert float(each[200]) == pytest.approx(math.log(2))
    assert float(each.min()) == pytest.approx(entropy, abs=1e-3)
    assert float(apart[each.argmin()]) == pytest.approx(math.log((1 - share) / share), abs=0.1)
    torch.testing.assert_close(losses.sigmoid(apart, torch.zeros(401), beta=1.0), F.softplus(-apart))


@pytest.mark.parametrize("name", ["sigmoid", "ipo", "hinge", "simpo", "orpo", "kto"])
def test_every_loss_wants_the_better_answer_likelier(name):
    settings = DpoSettings(dataset=("few",), loss=name)
    scores = torch.tensor([[-2.0], [-2.1]], requires_grad=True)
    losses.loss_of(settings, *scores, torch.tensor(0.1)).sum().backward()
    assert scores.grad[0] < 0 < scores.grad[1]
