"""What people's preferences cost a reward that predicts them: pure losses, one number a pair.

`lead` is the reward of the first video of a pair less that of the second, in logits. `shares` are the votes for good
(the first is better), same and bad, as shares: one person's verdict is a 1 and two 0s, and several people's are a soft
label, whose minimum is where the model gives each verdict its share.

    Bradley and Terry (1952)   good s(x), bad s(-x), s the logistic; ties are left out
    Rao and Kupper (1967)      good s(x - t), bad s(-x - t), same the rest                 t = log k > 0
    Davidson (1970)            exp(x / 2) : exp(t) : exp(-x / 2)                           t = log nu

Rao and Kupper's is the "BTT" of VideoAlign (arXiv:2501.13918), which fixes k at 5, so that equal videos tie two times
in three; on three public sets of votes k is 2.4 to 2.6, two ties in five. Hence `t` may also be learned. In double
precision these agree with `palate.stats.ties`.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the usual name)

from palate.stats.ties import Ties

Pairs = Float[Tensor, "*pairs"]
Shares = Float[Tensor, "*pairs 3"]  # good, same, bad


def bradley_terry(lead: Pairs, shares: Shares, margin: Tensor | float = 0.0) -> Pairs:
    """Ties count nothing. A margin asks for a lead of that much, constant or by how clearly each pair was won."""
    good, _, bad = shares.unbind(-1)
    return -good * F.logsigmoid(lead - margin) - bad * F.logsigmoid(-lead - margin)


def log_odds(lead: Pairs, t: Tensor | float, ties: Ties) -> Shares:
    """Log probabilities of good, same and bad. `t` broadcasts against `lead`, so each axis may have its own."""
    t = torch.as_tensor(t, dtype=lead.dtype, device=lead.device)
    if ties == "davidson":
        return torch.stack([lead / 2, t.expand_as(lead), -lead / 2], dim=-1).log_softmax(dim=-1)
    good, bad = F.logsigmoid(lead - t), F.logsigmoid(-lead - t)
    same = 2 * t + torch.log(-torch.expm1(-2 * t)) + good + bad  # (k^2 - 1) good bad
    return torch.stack([good, same, bad], dim=-1)


def with_ties(lead: Pairs, shares: Shares, t: Tensor | float, ties: Ties) -> Pairs:
    """The cross entropy of the votes, ties among them."""
    return -(shares * log_odds(lead, t, ties)).sum(dim=-1)


def rating(value: Pairs, stars: Pairs, middle: float = 3.0) -> Pairs:
    """Regression to people's mean rating of each video, the middle of the scale at zero."""
    return (value - (stars - middle)).square()


def mean_over(loss: Pairs, weight: Pairs) -> Tensor:
    """The mean by weight: an axis nobody judged has weight 0, and takes no part. Zero where nobody judged any."""
    return (weight * loss).sum() / weight.sum().clamp_min(torch.finfo(loss.dtype).tiny)


def entropy(shares: Shares) -> Pairs:
    """The least that cross entropy can be on these votes: their own entropy."""
    return torch.special.entr(shares).sum(dim=-1)
