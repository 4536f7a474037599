"""Samples of the present policy with their rewards: what every online algorithm learns from.

Only what is trained on is kept: the final latents, and for policy gradients the states of the random steps, once. Each
prompt is encoded once.

All that is random of a prompt comes from the run's seed, the step and the prompt's place in the round, so a round can
be drawn again, by any number of processes. Samples are drawn in the very batches in which an update evaluates them, so
that a policy's ratio to itself is 1 to the last bit in every precision.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from alignment.policy import Conditions, Policy
from alignment.scoring import Scoring
from models import flow, sde
from models.codec import Clips
from models.guide import Guide
from palate.config import Settings

Rows = Int[Tensor, " rows"]


class RolloutSettings(Settings):
    """How many prompts a round, samples of each, and denoise steps of a sample (fewer than for the finished model).

    `batch` samples go through the network at a time, here and in updates; 0 is as many as there are.
    """

    prompts: int = Field(default=6, ge=1)
    group: int = Field(default=16, ge=2)  # one sample has nobody to be compared with
    steps: int = Field(default=8, ge=2)
    shift: float = Field(default=3.0, gt=0)
    batch: int = Field(default=0, ge=0)

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
        return self.first + int(torch.randint(choices, (1,), generator=rng))

    def step(self, x: sde.State, velocity: sde.State, now: float, after: float) -> sde.Transition:
        times = [torch.full((len(x),), time, device=x.device) for time in (now, after)]
        return sde.transition(self.sampler, x, velocity, times[0], times[1], self.level)


def generator_of(*numbers: int) -> torch.Generator:
    """A generator of its own for each tuple of numbers, zeros at its end apart, on the CPU."""
    high, low = np.random.SeedSequence(numbers).generate_state(2, np.uint32).tolist()
    return torch.Generator().manual_seed(high << 32 | low)


@dataclass(frozen=True)
class RandomStep:
    """One random step of all samples. `start` has a row for each different state, and `row` says which is whose.

    `unguided` is what guidance led away from, a row for each of `start`: an update before which nothing was learned
    need not ask again.
    """

    start: sde.State
    unguided: sde.State | None
    row: Rows
    end: sde.State
    now: float
    after: float
    old: sde.Transition  # of the policy that drew it: a row for each of `start`


@dataclass(frozen=True)
class Passed:
    """Where all samples were at flow time t."""

    t: float
    x: sde.State


@dataclass(frozen=True)
class Rollout:
    """What one process drew of a round. Samples are in the order of prompts, then of the group.

    Attributes:
        places: which of the round's prompts the rows of `conditions` are.
        rewards: of the whole round, whoever drew it; nan where there is none.
        path: where the samples were at the times that a guide learns from.
    """

    places: Rows
    conditions: Conditions
    group: int
    latents: sde.State
    rewards: Float[Tensor, "prompts group"]
    random_steps: tuple[RandomStep, ...]
    path: tuple[Passed, ...] = ()

    def prompt_of(self, samples: Rows) -> Rows:
        return samples // self.group


@dataclass(frozen=True)
class Block:
    """Samples of some prompts that are drawn together: latents, random steps with rows of this block, and the path."""

    latents: sde.State
    random_steps: list[RandomStep]
    path: list[Passed]


@dataclass(frozen=True)
class Drawing:
    """How a round's samples are drawn: by the ODE, but for the random steps of the window that starts at `begin`.

    States at the flow times at which a `guide` leads are kept, for it to learn from.
    """

    policy: Policy
    network: nn.Module
    settings: RolloutSettings
    window: WindowSettings | None
    begin: int
    guide: Guide | None = None

    @torch.no_grad()
    def blocks(
        self,
        prompts: Sequence[str],
        conditions: Conditions,
        chances: Sequence[torch.Generator],
        scoring: Scoring | None,
        seen: Callable[[Clips], None] = lambda _: None,
    ) -> list[Block]:
        """A group for each prompt; `chances` has a generator for each. Scores are asked for block by block, of
        `scoring` where it is given.

        `seen` is told the clips of each block.
        """
        found = []
        for places in torch.arange(len(prompts)).split(self.settings.batch or len(prompts)):
            at: list[int] = places.tolist()
            block = self._block(conditions[places], [chances[place] for place in at])
            asked = [prompts[place] for place in at for _ in range(self.settings.group)]
            clips = self.policy.clips(block.latents)
            if scoring:
                scoring.ask(asked, clips)
            seen(clips)
            found.append(block)
        return found

    def _block(self, conditions: Conditions, chances: Sequence[torch.Generator]) -> Block:
        group, window = self.settings.group, self.window
        alone = 1 if window and window.branch else group
        x = torch.cat([self.policy.noise(alone, chance) for chance in chances])
        count = torch.arange(len(chances), device=x.device)
        copies, row = count.repeat_interleave(group), count.repeat_interleave(alone)
        steps: list[RandomStep] = []
        path: list[Passed] = []
        for index, (now, after) in enumerate(pairwise(flow.grid(self.settings.steps, self.settings.shift))):
            if self.guide and self.guide.earliest <= now <= self.guide.latest:
                path.append(Passed(now, x))
            asked = (self.network, x, torch.full((len(x),), now, device=x.device), conditions[row])
            if window and self.begin <= index < self.begin + window.width:
                unguided = self.policy.unguided(*asked)
                v = self.policy.velocity(*asked, unguided)
                own = copies if len(row) < len(copies) else torch.arange(len(x), device=x.device)
                noise = torch.cat([torch.randn(group, *x.shape[1:], generator=chance) for chance in chances])
                old = window.step(x, v, now, after)
                end = old[own].draw(noise.to(x.device)).to(x.dtype)  # the next step starts from what is stored
                steps.append(RandomStep(x, unguided, own, end, now, after, old))
                x, row = end, copies
            else:
                x = x + self.policy.velocity(*asked) * (after - now)
        return Block(x, steps, path)


def together(blocks: Sequence[Block]) -> Block:
    """Blocks of one window as one. A state between two random steps is kept once, as the end of the first."""
    steps: list[RandomStep] = []
    for parts in zip(*(block.random_steps for block in blocks)):
        before = np.cumsum([0, *(len(part.start) for part in parts)])
        old = sde.Transition(
            torch.cat([part.old.mean for part in parts]), torch.cat([part.old.deviation for part in parts])
        )
        unguided = [part.unguided for part in parts if part.unguided is not None]
        steps.append(
            RandomStep(
                steps[-1].end if steps else torch.cat([part.start for part in parts]),
                torch.cat(unguided) if unguided else None,
                torch.cat([part.row + int(offset) for part, offset in zip(parts, before)]),
                torch.cat([part.end for part in parts]),
                parts[0].now,
                parts[0].after,
                old,
            )
        )
    paths = zip(*(block.path for block in blocks))
    path = [Passed(parts[0].t, torch.cat([part.x for part in parts])) for parts in paths]
    return Block(torch.cat([block.latents for block in blocks]), steps, path)
