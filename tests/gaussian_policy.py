"""A policy whose every quantity is known: the exact flow to a Gaussian, of which only the mean is learned."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from alignment.online import Algorithm, Online
from alignment.policy import Learner, Policy
from alignment.rollout import RolloutSettings
from alignment.scoring import Reward
from models import flow
from models.guide import Guide

DEVIATION = 0.5


class Gaussian(nn.Module):
    """(x_t, t, conditions) -> velocity of the flow to N(mean, DEVIATION^2)."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(dims))

    def forward(self, x: Tensor, t: Tensor, conditions: Tensor) -> Tensor:
        s = t[:, None].to(x.dtype)
        variance = (1 - s) ** 2 * DEVIATION**2 + s**2
        x0 = self.mean + (1 - s) * DEVIATION**2 / variance * (x - (1 - s) * self.mean)
        return (x - x0) / s


class GaussianPolicy:
    """Satisfies alignment.policy.Policy; its "clips" are the latents themselves."""

    def __init__(self, dims: int = 2, dtype: torch.dtype = torch.float32) -> None:
        self.dims, self.dtype = dims, dtype

    def conditions(self, prompts: Sequence[str]) -> Tensor:
        return torch.zeros(len(prompts), 1)

    def noise(self, count: int, rng: torch.Generator) -> Tensor:
        return torch.randn(count, self.dims, generator=rng).to(self.dtype)

    def velocity(
        self, network: nn.Module, x: Tensor, t: flow.Times, conditions: Tensor, unguided: Tensor | None = None
    ) -> Tensor:
        return network(x, t, conditions)

    def unguided(self, network: nn.Module, x: Tensor, t: flow.Times, conditions: Tensor) -> None:
        """There is no guidance."""

    def clips(self, latents: Tensor) -> Tensor:
        return latents.float()


def online(
    algorithm: Algorithm,
    reward: Reward,
    rollouts: RolloutSettings,
    updates: int = 1,
    policy: Policy | None = None,
    passes: int = 1,
    guide: Guide | None = None,
) -> Online:
    learner = Learner(Gaussian(), algorithm.reference, algorithm.behaviour, guide)
    ask: Callable[[int, int], list[str]] = lambda count, seed: ["any"] * count  # noqa: E731
    return Online(algorithm, policy or GaussianPolicy(), learner, ask, reward, rollouts, updates, 0, passes=passes)


def near(target: Sequence[float]) -> Reward:
    """-|x - target|^2, whose best policy has its mean at the target."""
    return lambda prompts, clips: -np.square(clips - np.array(target)).sum(axis=1)
