"""Flow-DPO (Liu et al., VideoAlign, arXiv:2501.13918, with constant beta) where the scene is decided, and the reference
held where it is drawn.

For one noise time t above `split` and one noise eps shared by winner and loser, e = mean |v - (eps - x0)|^2; and, for
another time t' below `split` on the winner, d = mean |v - v_ref|^2:

    L = -log sigmoid( -beta / 2 [ (e_w - e_w_ref) - (e_l - e_l_ref) ] ) + hold d

Departures. (1) Times. What people prefer, that the right things are there, is decided at high noise: on the shapes
world the gradient of the first term, over 16 pairs, has a signal-to-noise ratio of 0.009 +- 0.003 for t < 0.3, of 0.012
to 0.018 from there to 0.85, and of 0.047 +- 0.010 above 0.95 (tests/study/noise_times.py, 789 preferences). (2) Hold.
Only differences of errors are asked for, so errors may rise on winners and losers alike (DiffusionDPO issue 17); what
rose here was the contrast of the background, in every video. Learning at high noise alone does not prevent it, since
all times share their weights (cleanness fell from 0.515 to 0.385 in 120 steps); holding low noise to the reference does
(0.515 after 240). An anchor on winners and pretraining beside it (InstructGPT's) left 0.497 after 160, and need data.
(3) Each pair counts by its preference's weight, the share of votes by which it was won. (4) Errors are means over
values, not sums, hence a beta in the hundreds (as in flow_grpo). (5) Shared noise: the noise that a sample was drawn
from (which Kling-Omni, arXiv:2512.16776, 2.2.3, keeps with its pairs) gained less, 2 and 4 points at two learning rates
against 9, one run each.

With `split` and `hold` 0 it is the paper's own, at all times. `winner_drift`, the mean of e_w - e_w_ref, is logged so
that (2) can be seen.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the usual name)

from alignment.online import Noised, mean_square
from alignment.pairs import Pairs
from alignment.policy import Learner, Policy
from models import flow
from models.launch import rank, world
from models.sde import State
from palate.config import Settings

Errors = Float[Tensor, " pairs"]


class DpoSettings(Settings):
    """`beta`, `hold` and `split` as above; `batch` counts the pairs of a step, all processes together."""

    beta: float = Field(default=100.0, gt=0)
    hold: float = Field(default=60.0, ge=0)
    split: float = Field(default=0.6, ge=0, lt=1)
    batch: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "DpoSettings":
        if self.hold and not self.split:
            raise ValueError("hold is of times below split, which is 0")
        if self.batch % world():
            raise ValueError(f"batch ({self.batch}) must be a multiple of the processes ({world()})")
        return self


@dataclass(frozen=True)
class PairErrors:
    """Velocity errors of the policy and of the frozen reference, on winners and on losers."""

    winner: Errors
    loser: Errors
    winner_reference: Errors
    loser_reference: Errors


def dpo_loss(errors: PairErrors, weight: Errors, beta: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The first term above, averaged by weight, and what to watch. ln 2 where the policy is the reference."""
    winner_gap = errors.winner - errors.winner_reference
    loser_gap = errors.loser - errors.loser_reference
    margin = -beta / 2 * (winner_gap - loser_gap)
    loss = torch.sum(weight * -F.logsigmoid(margin)) / weight.sum()
    watched = {
        "preference_loss": loss.detach(),
        "implicit_accuracy": (margin > 0).float().mean(),
        "winner_drift": winner_gap.mean().detach(),
        "loser_drift": loser_gap.mean().detach(),
    }
    return loss, watched


@dataclass
class FlowDpo:
    """The objective for the training loop: pairs, times and noise of a step from its number.

    Several processes share a step's pairs: what is learned does not depend on how many there are, but for rounding.
    """

    policy: Policy
    learner: Learner
    pairs: Pairs
    settings: DpoSettings
    seed: int

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        told, pairs = self.settings, self.pairs
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        chosen = torch.randint(len(pairs.weight), (told.batch,), generator=rng)
        eps, other = (torch.randn(told.batch, *pairs.latents.shape, generator=rng) for _ in range(2))
        high = told.split + (1 - told.split) * flow.draw_times(told.batch, 1.0, rng)
        low = told.split * torch.rand(told.batch, generator=rng)

        own = slice(rank(), None, world())
        winner, loser, prompt = (part[chosen[own]] for part in (pairs.winner, pairs.loser, pairs.prompt))
        x0, weight = pairs.latents[torch.cat([winner, loser])], pairs.weight[chosen]
        both = self._noised(x0, high[own].repeat(2), torch.cat([eps[own]] * 2), prompt.repeat(2))
        v, v_ref = self._velocities(both)
        errors, reference = both.error(v).chunk(2), both.error(v_ref).chunk(2)
        mine = weight[own].to(v.device)
        loss, watched = dpo_loss(PairErrors(*errors, *reference), mine, told.beta)
        loss = loss * mine.sum() * world() / weight.sum()  # a mean over everybody's pairs once gradients are averaged
        if not told.hold:
            return loss, watched
        held = mean_square(torch.sub(*self._velocities(self._noised(x0[: len(prompt)], low[own], other[own], prompt))))
        return loss + told.hold * held.mean(), {**watched, "held": held.mean().detach()}

    def _noised(self, x0: State, t: flow.Times, eps: State, prompt: Tensor) -> Noised:
        device = next(self.learner.network.parameters()).device
        x0, t, eps = (part.to(device) for part in (x0, t, eps))
        return Noised(x0, t, eps, self.pairs.conditions[prompt].to(device))

    def _velocities(self, noised: Noised) -> tuple[State, State]:
        """Of the policy and of the reference."""
        with self.learner.under(self.learner.reference) as network:
            v_ref = noised.velocity(self.policy, network)
        return noised.velocity(self.policy, self.learner.network), v_ref
