"""The arithmetic of proximal policy optimisation (Schulman et al. 2017): pure functions of tensors.

A rollout's figures lie in rows [answers, longest], padded on the right; `mask` [answers, longest] (bool) says which are
tokens. What is wanted of single tokens takes and gives tensors of any shape. All logarithms are natural, so divergences
and entropies are in nat.
"""

import torch
from torch import Tensor

_TINY = 1e-8
# Ziegler et al. 2019, section 2.2: how far a step's error counts, and how fast the weight follows it.
_ERROR = 0.2
_GAIN = 0.1


def in_rows(flat: Tensor, mask: Tensor) -> Tensor:
    """The figures of all tokens, [tokens] in the order of the answers, as rows; 0 where there is none."""
    rows = torch.zeros(mask.shape, dtype=flat.dtype, device=flat.device)
    rows[mask] = flat
    return rows


def mask_of(counts: Tensor) -> Tensor:
    """Which places hold tokens when each answer has so many: counts [answers] -> [answers, longest]."""
    return torch.arange(int(counts.max()), device=counts.device) < counts[:, None]


def k1(new: Tensor, old: Tensor) -> Tensor:
    """KL(new || old) from one sample of new: log(new / old). Unbiased, and may be below 0 (Schulman 2020)."""
    return new - old


def k2(new: Tensor, old: Tensor) -> Tensor:
    """The same, by log(new / old)^2 / 2: biased, never below 0, of little variance."""
    return (new - old).square() / 2


def k3(new: Tensor, old: Tensor) -> Tensor:
    """The same, by old / new - 1 - log(old / new): unbiased, and never below 0."""
    return (old - new).exp() - 1 - (old - new)


def judged(scores: Tensor, ended: Tensor, *, penalty: float, clip: float) -> Tensor:
    """What answers are worth, [answers]: their scores, less where they do not end, cut to ± `clip` (0 = not)."""
    rewards = scores - penalty * (~ended).to(scores.dtype)
    return rewards.clamp(-clip, clip) if clip else rewards


def token_rewards(rewards: Tensor, log_ratios: Tensor, mask: Tensor, kl_weight: float) -> Tensor:
    """Each token costs its divergence from the reference, log_ratios [answers, longest]; the last one brings the
    answer's reward, [answers] (Ouyang et al. 2022, equation 2)."""
    each = -kl_weight * log_ratios * mask
    last = mask.sum(1) - 1
    return each.scatter_add(1, last[:, None], rewards[:, None].to(each.dtype))


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, equation 16), rows as `rewards` and `values` are.

    After an answer's last token nothing is to come, so its value there is 0. Returns are advantages + values.
    """
    found = torch.zeros_like(values)
    values, rewards = values * mask, rewards * mask
    after = next_value = torch.zeros_like(values[:, 0])
    for place in reversed(range(values.shape[1])):
        surprise = rewards[:, place] + gamma * next_value - values[:, place]
        after = (surprise + gamma * gae_lambda * after) * mask[:, place]
        found[:, place], next_value = after, values[:, place]
    return found


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """`values` with mean 0 and variance 1 over all tokens, 0 elsewhere; all 0 when they are all alike."""
    tokens = values[mask]
    variance = tokens.var(correction=0)
    return (values - tokens.mean()) * torch.rsqrt(variance + _TINY) * mask


def policy_loss(new: Tensor, old: Tensor, gains: Tensor, clip: float) -> Tensor:
    """The clipped surrogate of each token (Schulman et al. 2017, equation 7), to be minimised.

    `new` and `old` are the log-probabilities now and when the answers were drawn, `gains` the advantages.
    """
    ratio = (new - old).exp()
    return torch.max(-gains * ratio, -gains * ratio.clamp(1 - clip, 1 + clip))


def clipped(new: Tensor, old: Tensor, clip: float) -> Tensor:
    """Which tokens' probabilities have moved further than `clip`, as a ratio (bool)."""
    return ((new - old).exp() - 1).abs() > clip


def value_loss(new: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error of each token's value, or that of the value held within `clip` of the old one when that is
    the larger (clip 0 = not)."""
    error = (new - returns).square()
    if clip:
        held = old + (new - old).clamp(-clip, clip)
        error = torch.max(error, (held - returns).square())
    return error / 2


def adapted(kl_weight: float, kl: float, target: float) -> float:
    """The next weight of the divergence: higher when `kl` was above `target`, lower when below (Ziegler et al. 2019).

    Both are in nat an answer; with no target (0) the weight stays.
    """
    if not target:
        return kl_weight
    error = min(max(kl / target - 1, -_ERROR), _ERROR)
    return kl_weight * (1 + _GAIN * error)
