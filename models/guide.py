"""A guide: what a half-drawn clip is worth, whose slope leads the sampler (Flow-NRG of VideoAlign, arXiv:2501.13918).

The score of p_t(x) exp(w r(x, t)) is that of p_t plus w grad r, and in velocities, x_t = (1 - t) x0 + t eps,

    v = v_model - w t / (1 - t) grad_x r(x_t, t)

Where r(x, t) is the log of the mean of exp(r(x0)) given x_t = x, this samples exp(w r) p exactly for w = 1. The factor
is singular at t = 1, where the noise knows nothing of the video: times above `latest` are not guided.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the usual name)

from models.flow import Predict, Times, like
from models.sde import State

Each = Float[Tensor, " batch"]
NoisyReward = Callable[[State, Times], Each]  # (x_t, t) -> logits
READ = 64


def guided_by(
    predict: Predict, reward: NoisyReward, weight: float, latest: float = 0.98, earliest: float = 0.0
) -> Predict:
    """x0 of the bent flow: since v = (x_t - x0) / t, x0 moves by w t^2 / (1 - t) grad r, at these times alone."""

    def bent(x: State, t: Times) -> State:
        led = (t >= earliest) & (t <= latest)
        if not led.any():
            return predict(x, t)
        with torch.enable_grad():
            seen = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(reward(seen, t).sum(), seen)
        s = t.to(x.dtype)
        pull = torch.where(led, s.square() / (1 - s).clamp_min(1e-6), 0.0)
        return predict(x, t) + weight * like(pull, x) * slope

    return bent


class Guide(nn.Module):
    """The log-odds that what x_t becomes is right: a copy of a generator's network, whose prediction of x0 is read.

    `values` are those of one state. It leads at flow times from `earliest` to `latest`, `strength` times as far as the
    chance itself says. At first all log-odds are 0.
    """

    def __init__(self, network: nn.Module, values: int, strength: float, earliest: float, latest: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_()
        self.strength, self.earliest, self.latest = strength, earliest, latest
        self.read, self.weigh = nn.Linear(values, READ), nn.Linear(READ, 1)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    def forward(self, x0_hat: State) -> Each:
        """From what its own network predicts."""
        return self.weigh(F.silu(self.read(x0_hat.float().flatten(1)))).squeeze(1)

    def leading(self, predict: Predict, own: Predict) -> Predict:
        """Another network's prediction of x0 as this leads it; `own` predicts by this one's network."""
        return guided_by(predict, lambda x, t: F.logsigmoid(self(own(x, t))), self.strength, self.latest, self.earliest)

    def card(self) -> dict[str, Any]:
        return {"strength": self.strength, "earliest": self.earliest, "latest": self.latest}
