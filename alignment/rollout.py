"""Samples of the present policy with their rewards: what every online algorithm learns from.

Only what is trained on is kept: the final latents, and for policy gradients the states of the random steps, once. Each
prompt is encoded once. All that is random comes from the round's own generator, so a round can be drawn again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from alignment.policy import Conditions, Policy
from models import flow, sde
from palate.config import Settings

Rewards = Float[NDArray[np.float64], " batch"]
# (prompts, clips) -> rewards, with nan where there is none: a reward that failed is never a number
Reward = Callable[[Sequence[str], UInt8[NDArray[np.uint8], "batch frames height width 3"]], Rewards]
Rows = Int[Tensor, " rows"]


class RolloutSettings(Settings):
    """How many prompts a round, samples of each, and denoise steps of a sample (fewer than for the finished model)."""

    prompts: int = Field(default=6, ge=1)
    group: int = Field(default=16, ge=2)  # one sample has nobody to be compared with
    steps: int = Field(default=8, ge=2)
    shift: float = Field(default=3.0, gt=0)

    @property
    def samples(self) -> int:
        """Of one round."""
        return self.prompts * self.group


class WindowSettings(Settings):
    """Which denoise steps are random, and how: `width` of them in a row, beginning in `first` .. `last`.

    place: `random` draws the beginning for each round (Flow-GRPO-Fast); `progressive` moves it on by one every `stay`
        rounds and back to the start after `last` (MixGRPO, arXiv:2507.21802).
    branch: the samples of a group share the noise and the steps before the window, so that they differ by the random
        steps alone, which then answer for the whole difference in reward (Flow-GRPO-Fast, DanceGRPO's shared noise).
    """

    sampler: sde.Kind = "flow"
    level: float = Field(default=0.7, gt=0)
    width: int = Field(default=1, ge=1)
    first: int = Field(default=0, ge=0)
    last: int = Field(default=2, ge=0)
    place: Literal["random", "progressive"] = "random"
    stay: int = Field(default=25, ge=1)
    branch: bool = True

    @model_validator(mode="after")
    def _in_order(self) -> "WindowSettings":
        if self.first > self.last:
            raise ValueError("the window's first beginning is after its last")
        if self.sampler == "cps" and self.level >= 1:
            raise ValueError("cps needs a level under 1")
        return self

    def begins(self, round_: int, rng: torch.Generator) -> int:
        choices = self.last - self.first + 1
        if self.place == "progressive":
            return self.first + round_ // self.stay % choices
        return self.first + int(torch.randint(choices, (1,), generator=rng, device=rng.device))

    def step(self, x: sde.State, velocity: sde.State, now: float, after: float) -> sde.Transition:
        times = [torch.full((len(x),), time, device=x.device) for time in (now, after)]
        return sde.transition(self.sampler, x, velocity, times[0], times[1], self.level)


@dataclass(frozen=True)
class RandomStep:
    """One random step of all samples. `start` has a row for each different state, and `row` says which is whose."""

    start: sde.State
    row: Rows
    end: sde.State
    now: float
    after: float
    old: sde.Transition  # of the policy that drew it: a row for each of `start`
    log_probability: flow.Times


@dataclass(frozen=True)
class Rollout:
    """One round. Samples are in the order of prompts, then of the group."""

    prompts: list[str]
    conditions: Conditions
    group: int
    latents: sde.State
    rewards: Float[Tensor, "prompts group"]  # nan where there is none
    random_steps: tuple[RandomStep, ...]

    def prompt_of(self, samples: Rows) -> Rows:
        return samples // self.group


@torch.no_grad()
def roll_out(
    policy: Policy,
    network: nn.Module,
    prompts: Sequence[str],
    settings: RolloutSettings,
    reward: Reward,
    rng: torch.Generator,
    window: WindowSettings | None = None,
    round_: int = 0,
) -> Rollout:
    """Samples and scores a group for each prompt, by the ODE but for the random steps that `window` asks for."""
    times = flow.grid(settings.steps, settings.shift)
    conditions = policy.conditions(prompts)
    copies = torch.arange(len(prompts), device=rng.device).repeat_interleave(settings.group)
    row = torch.arange(len(prompts), device=rng.device) if window and window.branch else copies
    begin = window.begins(round_, rng) if window else settings.steps
    x = policy.noise(len(row), rng)
    steps: list[RandomStep] = []
    for index, (now, after) in enumerate(pairwise(times)):
        v = policy.velocity(network, x, torch.full((len(x),), now, device=x.device), conditions[row])
        if window and begin <= index < begin + window.width:
            own = copies if len(row) < len(copies) else torch.arange(len(x), device=x.device)
            steps.append(_random_step(window, x, v, now, after, own, rng))
            x, row = steps[-1].end, copies
        else:
            x = x + v * (after - now)
    asked = [prompt for prompt in prompts for _ in range(settings.group)]
    values = torch.from_numpy(np.asarray(reward(asked, policy.clips(x).cpu().numpy()), np.float32))
    rewards = values.to(x.device).view(len(prompts), settings.group)
    return Rollout(list(prompts), conditions, settings.group, x, rewards, tuple(steps))


def _random_step(
    window: WindowSettings, x: sde.State, v: sde.State, now: float, after: float, row: Rows, rng: torch.Generator
) -> RandomStep:
    old = window.step(x, v, now, after)
    each = old[row]
    noise = torch.randn(each.mean.shape, generator=rng, device=x.device)
    end = each.draw(noise).to(x.dtype)  # what is stored is what the next step starts from, to the last bit
    return RandomStep(x, row, end, now, after, old, each.log_probability(end))
