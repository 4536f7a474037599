"""RAFT (Dong et al., arXiv:2304.06767): matching on the best of one's own samples.

    L = mean |v - (eps - x0)|^2 over the `keep` best of each group

Departures. A group whose rewards are all equal, or missing, has no best and is left out. Of equals at the threshold all
are kept, so that the order of samples decides nothing.
"""

import torch
from pydantic import Field
from torch import Tensor

from alignment.advantage import Groups, reward_metrics
from alignment.online import Metrics, Update, nothing_to_learn
from alignment.policy import Learner
from alignment.rollout import RolloutSettings
from palate.config import Settings


class SftSettings(Settings):
    """`keep` of each group's samples are learned from."""

    keep: int = Field(default=1, ge=1)


def best(rewards: Groups, keep: int) -> Tensor:
    """Which samples of each group are kept: (prompts, group), bool."""
    known = rewards.isfinite()
    ranked = torch.where(known, rewards, -torch.inf)
    threshold = ranked.topk(min(keep, rewards.shape[1]), dim=1).values[:, -1:]
    worst = torch.where(known, rewards, torch.inf).amin(dim=1, keepdim=True)
    return known & (ranked >= threshold) & (ranked > worst)


class Sft:
    """Satisfies alignment.online.Algorithm."""

    reference = False
    behaviour = False
    window = None

    def __init__(self, settings: SftSettings) -> None:
        self.settings = settings

    def begin(self, round_: int, learner: Learner) -> None:
        """Nothing is kept from round to round."""

    def trained_rows(self, rollouts: RolloutSettings) -> int:
        return rollouts.samples  # of equals all are kept

    def loss(self, update: Update) -> tuple[Tensor, Metrics]:
        kept = best(update.rollout.rewards, self.settings.keep)
        watched = reward_metrics(update.rollout.rewards, kept.float())
        samples, share = update.samples[update.of_samples(kept)], update.share_of(kept)
        if not len(samples):
            return nothing_to_learn(), watched
        noised = update.noised(samples)
        return noised.error(noised.velocity(update.policy, update.learner.network)).sum() / share, watched
