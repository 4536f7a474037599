"""Learning from samples of one's own: rounds of rollouts, and in between the algorithm's updates on them.

A round begins with step number `round * updates`. Its prompts, noise and random steps come from that number and the
run's seed, and its policy is the one in the learner, so a run resumed at the beginning of a round goes on bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from alignment.advantage import Groups
from alignment.policy import Conditions, Learner, Policy
from alignment.rollout import Reward, Rollout, RolloutSettings, Rows, WindowSettings, roll_out
from models import flow
from models.sde import State

Metrics = dict[str, Tensor]
EARLIEST = 0.05  # flow time under which no training noise is drawn: velocities are singular at 0


@dataclass(frozen=True)
class Noised:
    """Samples with fresh noise: what algorithms on the forward process evaluate. Rows are samples."""

    x0: State
    t: flow.Times
    eps: State
    conditions: Conditions

    @cached_property
    def x_t(self) -> State:
        return torch.lerp(self.x0, self.eps, _like(self.t, self.x0))

    def velocity(self, policy: Policy, network: nn.Module) -> State:
        return policy.velocity(network, self.x_t, self.t, self.conditions)

    def error(self, velocity: State) -> Tensor:
        """Mean over values of |v - (eps - x0)|^2, (batch,)."""
        return mean_square(velocity - (self.eps - self.x0))

    def x0_of(self, velocity: State) -> State:
        return self.x_t - _like(self.t, velocity) * velocity


def mean_square(values: State) -> Tensor:
    """Over all dims but the first."""
    return values.float().square().flatten(1).mean(dim=1)


def _like(t: flow.Times, x: State) -> Tensor:
    return t.view(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class Update:
    """One optimiser step's share of a round: all samples of some of its prompts.

    `first` says that nothing has been learned since the round was drawn.
    """

    policy: Policy
    learner: Learner
    rollout: Rollout
    prompts: Rows
    first: bool
    rng: torch.Generator
    shift: float

    @property
    def samples(self) -> Rows:
        group = torch.arange(self.rollout.group, device=self.prompts.device)
        return (self.prompts[:, None] * self.rollout.group + group).flatten()

    def noised(self, samples: Rows) -> Noised:
        """Each sample at a random time under noise of its own."""
        x0 = self.rollout.latents[samples]
        t = flow.draw_times(len(samples), self.shift, self.rng).clamp_min(EARLIEST)
        eps = torch.randn(x0.shape, generator=self.rng, device=x0.device)
        return Noised(x0, t, eps, self.rollout.conditions[self.rollout.prompt_of(samples)])

    def moved_from_start(self, noised: Noised, v: State) -> Tensor:
        """Mean |v - v_start|^2, the KL of algorithms on the forward process: needs the learner's reference."""
        assert self.learner.reference is not None
        with torch.no_grad():
            v_start = noised.velocity(self.policy, self.learner.reference)
        return mean_square(v - v_start).mean()

    def of_samples(self, each: Groups) -> Tensor:
        """The rows of this update of a number for each sample of the round, (samples,)."""
        return each[self.prompts].flatten()


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
    """The objective for the one training loop (models/fit.py). `ask` gives prompts from how many and a seed."""

    algorithm: Algorithm
    policy: Policy
    learner: Learner
    ask: Callable[[int, int], list[str]]
    reward: Reward
    rollouts: RolloutSettings
    updates: int
    seed: int
    _round: Rollout | None = field(default=None, init=False)
    _order: Rows = field(init=False)

    def __call__(self, step: int) -> tuple[Tensor, Metrics]:
        device = next(self.learner.parameters()).device
        rng = torch.Generator(device).manual_seed(self.seed * 1_000_003 + step)
        number, inner = divmod(step, self.updates)
        if inner == 0:
            self._round = self._draw(number, rng)
            self._order = torch.randperm(self.rollouts.prompts, generator=rng, device=device)
        assert self._round is not None, "a run begins, and goes on, at the beginning of a round"
        prompts = self._order.chunk(self.updates)[inner].sort().values
        shift, first = self.rollouts.shift, inner == 0
        return self.algorithm.loss(Update(self.policy, self.learner, self._round, prompts, first, rng, shift))

    def _draw(self, number: int, rng: torch.Generator) -> Rollout:
        self.algorithm.begin(number, self.learner)
        drawn_by = self.learner.behaviour or self.learner.network
        prompts = self.ask(self.rollouts.prompts, int(torch.randint(2**31, (1,), generator=rng, device=rng.device)))
        return roll_out(self.policy, drawn_by, prompts, self.rollouts, self.reward, rng, self.algorithm.window, number)


def nothing_to_learn() -> Tensor:
    """The loss of an update whose groups are all tied or unscored: no gradient reaches any weight."""
    return torch.zeros((), requires_grad=True)
