"""Losses that make the better of two answers likelier than the worse one; pure functions of log-probabilities in nat.

Each takes of every pair, [pairs], what the policy says of the chosen and of the rejected answer, and gives the pair's
loss, [pairs]. A score is log policy(answer) - log reference(answer), summed over the answer's tokens or, for the losses
of AVERAGED, their mean; simpo and orpo know no reference, and take the mean log policy(answer) itself. The defaults of
the settings are TRL's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from medcli.core.alignment_settings import DpoSettings

AVERAGED = ("ipo", "simpo", "orpo")  # losses of the mean over an answer's tokens
_CERTAIN = -1e-6  # nat; an answer that is certain has no odds


def sigmoid(chosen: Tensor, rejected: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(beta * (chosen - rejected)): DPO, Rafailov et al. 2023, equation 7.

    With a share e of pairs the wrong way round: (1 - e) * that + e * that of the pair turned round (cDPO, Mitchell
    2023). It is never below the entropy of e.
    """
    apart = beta * (chosen - rejected)
    return -(1 - label_smoothing) * F.logsigmoid(apart) - label_smoothing * F.logsigmoid(-apart)


def hinge(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """max(0, 1 - beta * (chosen - rejected)): Zhao et al. 2023 (SLiC), with the reference of DPO."""
    return torch.relu(1 - beta * (chosen - rejected))


def ipo(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """(chosen - rejected - 1 / (2 * beta))^2: Azar et al. 2023, equation 17, where beta is called tau.

    Scores are means over tokens; TRL's source says that the authors confirmed it.
    """
    return (chosen - rejected - 1 / (2 * beta)).square()


def simpo(chosen: Tensor, rejected: Tensor, *, beta: float, target_margin: float) -> Tensor:
    """-log sigmoid(beta * (chosen - rejected) - target_margin): Meng et al. 2024, equation 6, gamma the margin."""
    return -F.logsigmoid(beta * (chosen - rejected) - target_margin)


def orpo(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """-chosen - beta * log sigmoid(log odds(chosen) - log odds(rejected)): Hong et al. 2024, equations 6 and 7.

    odds(p) = p / (1 - p), where log p is the mean over tokens; beta is what the paper calls lambda. The first term is
    the loss of supervised training, of the answer's tokens.
    """
    return -chosen - beta * F.logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def kto(chosen: Tensor, rejected: Tensor, *, beta: float, divergence: Tensor) -> Tensor:
    """The mean of 1 - sigmoid(beta * (chosen - z)) and 1 - sigmoid(beta * (z - rejected)): Ethayarajh et al. 2024.

    Equation 8, with both weights one, for a pair gives one desirable answer and one undesirable. z is the `divergence`
    of policy and reference, see `divergence_of`.
    """
    desirable = 1 - torch.sigmoid(beta * (chosen - divergence))
    undesirable = 1 - torch.sigmoid(beta * (divergence - rejected))
    return (desirable + undesirable) / 2


def divergence_of(mismatched: Tensor) -> Tensor:
    """kto's z0, []: the mean score of answers to other prompts, never below 0, and without a gradient."""
    return mismatched.detach().mean().clamp(min=0)


def loss_of(settings: DpoSettings, chosen: Tensor, rejected: Tensor, divergence: Tensor) -> Tensor:
    """The losses of pairs by the settings; `divergence` is read by kto alone."""
    beta = settings.beta
    match settings.loss:
        case "sigmoid":
            return sigmoid(chosen, rejected, beta=beta, label_smoothing=settings.label_smoothing)
        case "hinge":
            return hinge(chosen, rejected, beta=beta)
        case "ipo":
            return ipo(chosen, rejected, beta=beta)
        case "simpo":
            return simpo(chosen, rejected, beta=beta, target_margin=settings.target_margin)
        case "orpo":
            return orpo(chosen, rejected, beta=beta)
        case "kto":
            return kto(chosen, rejected, beta=beta, divergence=divergence)


def _log_odds(log_probabilities: Tensor) -> Tensor:
    """log p - log(1 - p); the latter by what is exact near 0 and near 1 (Maechler 2012)."""
    bounded = log_probabilities.clamp(max=_CERTAIN)
    near_certain = bounded > -0.6931
    # Of both branches only one may be asked where it is exact, or the other's infinite gradient would come through.
    small = torch.log(-torch.expm1(torch.where(near_certain, bounded, -1.0)))
    large = torch.log1p(-torch.exp(torch.where(near_certain, -1.0, bounded)))
    return bounded - torch.where(near_certain, small, large)
