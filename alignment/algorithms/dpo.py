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

`winner_drift`, the mean of e_w - e_w_ref, is logged so that (2) can be seen.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the usual name)

from alignment.pairs import Pairs
from models import flow
from models.dit import VideoTransformer, Words
from models.flow import Latents, Times
from palate.config import Settings

Errors = Float[Tensor, " pairs"]


class DpoSettings(Settings):
    """`beta`, `hold` and `split` as above; `batch` counts pairs."""

    beta: float = Field(default=100.0, gt=0)
    hold: float = Field(default=60.0, ge=0)
    split: float = Field(default=0.6, gt=0, lt=1)
    batch: int = Field(default=16, ge=1)


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
    """The objective for the training loop: pairs, times and noise of a step from its number."""

    policy: VideoTransformer
    reference: VideoTransformer
    pairs: Pairs
    settings: DpoSettings
    seed: int

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        device, split = self.pairs.winner.device, self.settings.split
        rng = torch.Generator(device).manual_seed(self.seed * 1_000_003 + step)
        chosen = torch.randint(len(self.pairs.weight), (self.settings.batch,), generator=rng, device=device)
        winner, loser, words = self.pairs.winner[chosen], self.pairs.loser[chosen], self.pairs.words[chosen]
        eps, other = (torch.randn(winner.shape, generator=rng, device=device) for _ in range(2))
        high = split + (1 - split) * flow.draw_times(len(chosen), 1.0, rng)
        low = split * torch.rand(len(chosen), generator=rng, device=device)

        both, high = torch.cat([winner, loser]), high.repeat(2)
        predicted, fixed = self._predicted(flow.noised(both, eps.repeat(2, 1, 1), high), high, words.repeat(2, 1))
        errors = flow.velocity_error(predicted, both, high).chunk(2)
        reference = flow.velocity_error(fixed, both, high).chunk(2)
        loss, watched = dpo_loss(PairErrors(*errors, *reference), self.pairs.weight[chosen], self.settings.beta)

        held = flow.velocity_error(*self._predicted(flow.noised(winner, other, low), low, words), low).mean()
        return loss + self.settings.hold * held, {**watched, "held": held.detach()}

    def _predicted(self, noisy: Latents, t: Times, words: Words) -> tuple[Latents, Latents]:
        """x0 as the policy and as the reference see it."""
        with torch.no_grad():
            fixed = self.reference(noisy, t, words)
        return self.policy(noisy, t, words), fixed
