"""Learning from samples of one's own: rounds of rollouts, and in between the algorithm's updates on them.

A round begins with step number `round * updates`. Its prompts, noise and random steps come from that number and the
run's seed, and its policy is the one in the learner, so a run resumed at the beginning of a round goes on bit for bit.

Several processes share each step's prompts, and every one knows all rewards: what is learned does not depend on how
many there are, but for rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from alignment.advantage import Groups
from alignment.policy import Conditions, Learner, Policy
from alignment.rollout import Drawing, Rollout, RolloutSettings, Rows, WindowSettings, generator_of, together
from alignment.scoring import NoRewardError, Reward, Scoring
from models import flow
from models.launch import gathered, rank, world
from models.sde import State
from palate.config import Settings

T = TypeVar("T")
Metrics = dict[str, Tensor]
EARLIEST = 0.05  # flow time under which no training noise is drawn: velocities are singular at 0


class TimesSettings(Settings):
    """Where on the path from video to noise a run learns, and where it is held.

    Algorithms on the forward process learn at times above `split`, where the scene is decided; policy gradients where
    their window says. At times below it, `hold` weighs mean |v - v_start|^2, on one sample of each prompt: all times
    share their weights, and what no reward speaks of would drift (alignment/algorithms/dpo.py has the figures).

    Losses are of different sizes, and `hold` has to be of the size of its own: tests/study/gradients.py says which that
    is. At 2, as other algorithms have it, it kept Flow-GRPO where it was.
    """

    split: float = Field(default=0.0, ge=0, lt=1)
    hold: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _holds_somewhere(self) -> "TimesSettings":
        if self.hold and not self.split:
            raise ValueError("hold is of times below split, which is 0")
        return self


@dataclass(frozen=True)
class Noised:
    """Samples with fresh noise: what algorithms on the forward process evaluate. Rows are samples."""

    x0: State
    t: flow.Times
    eps: State
    conditions: Conditions

    @cached_property
    def x_t(self) -> State:
        return torch.lerp(self.x0, self.eps, flow.like(self.t, self.x0))

    def velocity(self, policy: Policy, network: nn.Module) -> State:
        return policy.velocity(network, self.x_t, self.t, self.conditions)

    def error(self, velocity: State) -> Tensor:
        """Mean over values of |v - (eps - x0)|^2, (batch,)."""
        return mean_square(velocity - (self.eps - self.x0))

    def x0_of(self, velocity: State) -> State:
        return self.x_t - flow.like(self.t, velocity) * velocity


def mean_square(values: State) -> Tensor:
    """Over all dims but the first."""
    return values.float().square().flatten(1).mean(dim=1)


@dataclass(frozen=True)
class Update:
    """This process's share of an optimiser step: all samples of some of its prompts.

    `step` is the optimiser step, `first` says that nothing has been learned since the round was drawn.
    """

    policy: Policy
    learner: Learner
    rollout: Rollout
    prompts: Rows
    step: int
    first: bool
    seed: int
    shift: float
    times: TimesSettings

    @property
    def samples(self) -> Rows:
        group = torch.arange(self.rollout.group, device=self.prompts.device)
        return (self.prompts[:, None] * self.rollout.group + group).flatten()

    def _chances(self, purpose: int) -> list[torch.Generator]:
        """One for each of `prompts`, for this step and purpose alone."""
        places = self.rollout.places[self.prompts].tolist()
        return [generator_of(self.seed, self.step, place, purpose) for place in places]

    @cached_property
    def _noise(self) -> tuple[flow.Times, State]:
        """A time and noise for each of `samples`, which of them are learned from deciding nothing."""
        group, shape = self.rollout.group, self.rollout.latents.shape[1:]
        chances = self._chances(1)
        drawn = torch.cat([flow.draw_times(group, self.shift, chance) for chance in chances])
        t = (self.times.split + (1 - self.times.split) * drawn).clamp_min(EARLIEST)
        eps = torch.cat([torch.randn(group, *shape, generator=chance) for chance in chances])
        return t.to(self.prompts.device), eps.to(self.prompts.device)

    def noised(self, samples: Rows) -> Noised:
        """Each of some of these samples at a random time under noise of its own."""
        t, eps = (part[torch.searchsorted(self.samples, samples)] for part in self._noise)
        conditions = self.rollout.conditions[self.rollout.prompt_of(samples)]
        return Noised(self.rollout.latents[samples], t, eps, conditions)

    def moved_from_start(self, noised: Noised, v: State) -> Tensor:
        """Mean |v - v_start|^2, the KL of algorithms on the forward process: needs the learner's reference."""
        with self.learner.under(self.learner.reference) as network:
            v_start = noised.velocity(self.policy, network)
        return mean_square(v - v_start).mean()

    def held(self) -> Tensor:
        """Mean |v - v_start|^2 at times below the split, on the first sample of each prompt."""
        rollout, at = self.rollout, self.prompts * self.rollout.group
        chances = self._chances(2)
        t = torch.cat([self.times.split * torch.rand(1, generator=chance) for chance in chances]).clamp_min(EARLIEST)
        eps = torch.cat([torch.randn(1, *rollout.latents.shape[1:], generator=chance) for chance in chances])
        conditions = rollout.conditions[self.prompts]
        noised = Noised(rollout.latents[at], t.to(at.device), eps.to(at.device), conditions)
        return self.moved_from_start(noised, noised.velocity(self.policy, self.learner.network))

    def choices(self, count: int) -> Rows:
        """A random one of `count`, anew for each of `samples`."""
        drawn = [torch.randint(count, (self.rollout.group,), generator=chance) for chance in self._chances(3)]
        return torch.cat(drawn).to(self.prompts.device)

    def of_samples(self, each: Groups) -> Tensor:
        """The rows of this update of a number for each sample of the round, (samples,)."""
        return each[self.rollout.places[self.prompts]].flatten()

    def share_of(self, chosen: Groups) -> Tensor:
        """How many are chosen of what this step learns from, by all processes together, for each process.

        A sum over this process's chosen rows, divided by it, is a mean over everybody's once gradients are averaged.
        """
        step = chosen[self.rollout.places[self.prompts]].sum()
        return gathered(step).sum() / world()


class Algorithm(Protocol):
    """What distinguishes one online algorithm from another."""

    @property
    def reference(self) -> bool:
        """Whether it needs a frozen copy of the start."""
        ...

    @property
    def behaviour(self) -> bool:
        """Whether it needs a copy of an earlier policy, which then draws the samples."""
        ...

    @property
    def window(self) -> WindowSettings | None:
        """The random steps it learns from, where it does."""
        ...

    def begin(self, round_: int, learner: Learner) -> None:
        """Before a round is drawn: move the copies."""
        ...

    def trained_rows(self, rollouts: RolloutSettings) -> int:
        """How many states a round evaluates with a gradient, at most."""
        ...

    def loss(self, update: Update) -> tuple[Tensor, Metrics]: ...


@dataclass
class Online:
    """The objective for the one training loop (models/fit.py). `ask` gives prompts from how many and a seed.

    A round is drawn once and learned from `passes` times, in `updates` optimiser steps each.
    """

    algorithm: Algorithm
    policy: Policy
    learner: Learner
    ask: Callable[[int, int], list[str]]
    reward: Reward
    rollouts: RolloutSettings
    updates: int
    seed: int
    times: TimesSettings = field(default_factory=TimesSettings)
    passes: int = 1
    _round: Rollout | None = field(default=None, init=False)

    def __call__(self, step: int) -> tuple[Tensor, Metrics]:
        number, inner = divmod(step, self.passes * self.updates)
        if inner == 0:
            self._round = self.draw(number)
        assert self._round is not None, "a run begins, and goes on, at the beginning of a round"
        rows = torch.arange(len(self._round.places), device=self._round.latents.device)
        prompts = rows.chunk(self.updates)[inner % self.updates]
        told = (step, inner == 0, self.seed, self.rollouts.shift, self.times)
        update = Update(self.policy, self.learner, self._round, prompts, *told)
        loss, watched = self.algorithm.loss(update)
        if self.times.hold:
            held = update.held()
            loss, watched["held"] = loss + self.times.hold * held, held.detach()
        return loss, watched

    def draw(self, number: int) -> Rollout:
        """A round's samples, from its number. Raises NoRewardError, and whatever the reward raises."""
        told, window = self.rollouts, self.algorithm.window
        self.algorithm.begin(number, self.learner)
        chance = generator_of(self.seed, number)
        asked = self.ask(told.prompts, int(torch.randint(2**31, (1,), generator=chance)))
        places = torch.arange(told.prompts).view(self.updates, world(), -1)[:, rank()]
        prompts = [asked[place] for place in places.flatten()]
        conditions = self.policy.conditions(prompts)
        begin = window.begins(number, chance) if window else told.steps
        with Scoring(self.reward) as scoring, self.learner.under(self.learner.behaviour) as network:
            drawing = Drawing(self.policy, network, told, window, begin, self.learner.guide)
            blocks = []
            for rows in torch.arange(len(prompts)).chunk(self.updates):
                chances = [generator_of(self.seed, number, int(places.flatten()[row])) for row in rows]
                blocks += drawing.blocks([prompts[row] for row in rows], conditions[rows], chances, scoring)
            drawn = together(blocks)
            device = drawn.latents.device
            own = scoring.rewards().view(*places.shape, told.group).to(device)
        rewards = gathered(own).transpose(0, 1).reshape(told.prompts, told.group)
        if not bool(rewards.isfinite().any()):
            raise NoRewardError(f"none of the samples of round {number} could be scored", "see to the reward")
        return Rollout(
            places.flatten().to(device),
            conditions,
            told.group,
            drawn.latents,
            rewards,
            tuple(drawn.random_steps),
            tuple(drawn.path),
        )


def one_by_one(loss: Callable[[T], Tensor], parts: Sequence[T]) -> Tensor:
    """The sum of a loss over parts, each but the last gone backward before the next is evaluated.

    What a part keeps for its backward pass is in memory for that part alone, however many there are. Gradients add up,
    so they are those of the sum.
    """
    *before, last = parts
    total = torch.zeros(())
    for part in before:
        value = loss(part)
        if value.requires_grad:
            value.backward()
        total = total.to(value.device) + value.detach()
        del value
    return loss(last) + total


def nothing_to_learn() -> Tensor:
    """The loss of an update whose groups are all tied or unscored: no gradient reaches any weight."""
    return torch.zeros((), requires_grad=True)
