"""Flow-DPO (Liu et al., VideoAlign, arXiv:2501.13918, with constant beta), anchored to winners and to real data.

For one time t and one noise eps shared by winner and loser, e = mean |v - (eps - x0)|^2, and

    L = -log sigmoid( -beta / 2 [ (e_w - e_w_ref) - (e_l - e_l_ref) ] ) + anchor e_w + replay e_real

Shared noise, not each sample's own: the noise that a sample was drawn from (which Kling-Omni, arXiv:2512.16776, 2.2.3,
keeps with its pairs) gained less on the shapes world, one run each: 2 and 4 points at two learning rates, against 9.

Departures. (1) The anchor, the flow-matching loss of the winner: without it the error rises on winners as well as on
losers (DiffusionDPO issue 17), since only their difference is asked for. `winner_drift`, the mean of e_w - e_w_ref, is
logged so that this can be seen. (2) Each pair counts by its preference's weight, the share of votes by which it was
won. (3) Replay, the pretraining loss on a few real clips a step (InstructGPT's pretraining term): without it the
picture lost crispness while it gained in obedience. (4) Errors are means over values, not sums, hence a beta in the
hundreds (as in flow_grpo).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the usual name)

from alignment.pairs import Pairs
from models import flow
from models.dit import VideoTransformer
from models.fit import Loss
from palate.config import Settings

Errors = Float[Tensor, " pairs"]


class DpoSettings(Settings):
    """`beta` as above; `anchor` and `replay` weigh the losses of winners and of real clips; `batch` counts pairs."""

    beta: float = 100.0
    anchor: float = 1.0
    replay: float = 10.0
    batch: int = 16
    replay_batch: int = 32
    shift: float = 3.0


@dataclass(frozen=True)
class PairErrors:
    """Velocity errors of the policy and of the frozen reference, on winners and on losers."""

    winner: Errors
    loser: Errors
    winner_reference: Errors
    loser_reference: Errors


def dpo_loss(errors: PairErrors, weight: Errors, settings: DpoSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss above without replay, by weight, and what to watch. ln 2 + anchor where policy is reference."""
    winner_gap = errors.winner - errors.winner_reference
    loser_gap = errors.loser - errors.loser_reference
    margin = -settings.beta / 2 * (winner_gap - loser_gap)
    preference = torch.sum(weight * -F.logsigmoid(margin)) / weight.sum()
    anchor = torch.sum(weight * errors.winner) / weight.sum()
    watched = {
        "preference_loss": preference.detach(),
        "implicit_accuracy": (margin > 0).float().mean(),
        "winner_drift": winner_gap.mean().detach(),
        "loser_drift": loser_gap.mean().detach(),
    }
    return preference + settings.anchor * anchor, watched


@dataclass
class FlowDpo:
    """The objective for the training loop: pairs, times and noise of a step from its number; `real` is the replay."""

    policy: VideoTransformer
    reference: VideoTransformer
    pairs: Pairs
    real: Loss
    settings: DpoSettings
    seed: int

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        device = self.pairs.winner.device
        rng = torch.Generator(device).manual_seed(self.seed * 1_000_003 + step)
        chosen = torch.randint(len(self.pairs.weight), (self.settings.batch,), generator=rng, device=device)
        x0 = torch.cat([self.pairs.winner[chosen], self.pairs.loser[chosen]])
        eps = torch.randn(self.pairs.winner[chosen].shape, generator=rng, device=device).repeat(2, 1, 1)
        words = self.pairs.words[chosen].repeat(2, 1)
        t = flow.draw_times(self.settings.batch, self.settings.shift, rng).repeat(2)
        noisy = flow.noised(x0, eps, t)
        winner, loser = flow.velocity_error(self.policy(noisy, t, words), x0, t).chunk(2)
        with torch.no_grad():
            fixed = flow.velocity_error(self.reference(noisy, t, words), x0, t).chunk(2)
        loss, watched = dpo_loss(PairErrors(winner, loser, *fixed), self.pairs.weight[chosen], self.settings)
        real, _ = self.real(step)
        return loss + self.settings.replay * real, {**watched, "real": real.detach()}
