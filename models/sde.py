"""Random steps along the flow, and their log-probability: what policy gradients need of a sampler.

A step from time s to time n < s is Gaussian, x_n ~ N(mean, deviation^2), given x_s and the velocity v there. With the
predictions x0 = x_s - s v and eps = x_s + (1 - s) v, the step h = s - n, and the noise level a:

`flow` (Flow-GRPO, arXiv:2505.05470, eq. 9): g = a sqrt(s / (1 - s)), with n in place of s below the line where s = 1;
    mean = x_s - h [v + g^2 / (2 s) (x_s + (1 - s) v)],  deviation = g sqrt(h)
`dance` (DanceGRPO, arXiv:2505.07818, eq. 8): the same with a constant g = a
`cps` (Flow-CPS, arXiv:2509.05952): deviation = n sin(a pi / 2),  mean = (1 - n) x0 + sqrt(n^2 - deviation^2) eps

The first two are Euler steps of an SDE whose marginals are the ODE's, so they are right as steps shrink; `cps` keeps
the amount of noise right at any step but draws too narrow a distribution. Everything here is float32 or wider.

Departure: flow_grpo drops 1 / (2 deviation^2) and the constants from the log-probability of `cps`. Here every sampler
has its true Gaussian density (the mean over values of it, as flow_grpo has for `flow`), so that a clip range means the
same.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from models.flow import Times, like

Kind = Literal["flow", "dance", "cps"]
State = Float[Tensor, "batch *dims"]


@dataclass(frozen=True)
class Transition:
    """The Gaussian that the next state is drawn from: mean like the state, one deviation for each of the batch."""

    mean: State
    deviation: Times

    def __getitem__(self, rows: Tensor) -> "Transition":
        return Transition(self.mean[rows], self.deviation[rows])

    def draw(self, noise: State) -> State:
        return self.mean + like(self.deviation, self.mean) * noise.to(self.mean.dtype)

    def log_probability(self, after: State) -> Times:
        """Mean over values, not the sum, of the log-density: ratios are the true ones to the power 1 / values."""
        spread = self.deviation
        return -self.squared(after) / (2 * spread**2) - torch.log(spread) - 0.5 * math.log(2 * math.pi)

    def divergence(self, other: "Transition") -> Times:
        """KL(self, other) where both have this deviation, the mean over values."""
        return self.squared(other.mean) / (2 * self.deviation**2)

    def squared(self, state: State) -> Times:
        """Mean over values of the squared distance from the mean."""
        return (state.to(self.mean.dtype) - self.mean).square().flatten(1).mean(dim=1)


def transition(kind: Kind, x: State, v: State, now: Times, after: Times, level: float) -> Transition:
    """The step from times `now` (batch,) to `after` (batch,), each of the batch at its own. See the equations above."""
    wide = torch.promote_types(x.dtype, torch.float32)
    x, v, now, after = x.to(wide), v.to(wide), now.to(wide), after.to(wide)
    s, n = like(now, x), like(after, x)
    if kind == "cps":
        deviation = after * math.sin(level * math.pi / 2)
        kept = (after.square() - deviation.square()).clamp_min(0).sqrt()
        return Transition((1 - n) * (x - s * v) + like(kept, x) * (x + (1 - s) * v), deviation)
    if kind == "dance":
        diffusion = torch.full_like(now, level)
    else:
        diffusion = level * torch.sqrt(now / (1 - torch.where(now == 1, after, now)))
    drift = v + like(diffusion, x).square() / (2 * s) * (x + (1 - s) * v)
    return Transition(x - (s - n) * drift, diffusion * torch.sqrt(now - after))
