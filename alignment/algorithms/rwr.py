"""Flow-RWR: matching on one's own samples, each as often as its reward deserves (Liu et al., arXiv:2501.13918).

    L = mean w |v - (eps - x0)|^2,   w = group * softmax over the group of r / temperature

From samples of a policy p its minimum is the tilted distribution, p exp(r / temperature) normalised: a closed form that
the tests hold it to. Round after round tilts further.

Departure: the paper weighs by exp(r) alone. Dividing by the group's mean, as the online variant in Flow-GRPO's paper
does, changes which prompts count, not what is best for one, and keeps hard prompts from vanishing. `most` bounds one
weight.
"""

import torch
from pydantic import Field
from torch import Tensor

from alignment.advantage import Groups, reward_metrics
from alignment.online import Metrics, Update
from alignment.policy import Learner
from alignment.rollout import RolloutSettings
from palate.config import Settings


class RwrSettings(Settings):
    temperature: float = Field(default=0.3, gt=0)
    most: float = Field(default=10.0, gt=0)


def rwr_weights(rewards: Groups, settings: RwrSettings) -> Groups:
    """Mean 1 over the known rewards of each group, before the bound; 0 for a reward that is missing."""
    known = rewards.isfinite()
    odds = torch.where(known, rewards / settings.temperature, -torch.inf)
    weights = torch.softmax(odds, dim=1) * known.sum(dim=1, keepdim=True)
    return torch.where(known, weights, 0.0).clamp_max(settings.most)


class Rwr:
    """Satisfies alignment.online.Algorithm."""

    reference = False
    behaviour = False
    window = None

    def __init__(self, settings: RwrSettings) -> None:
        self.settings = settings

    def begin(self, round_: int, learner: Learner) -> None:
        """Nothing is kept from round to round."""

    def trained_rows(self, rollouts: RolloutSettings) -> int:
        return rollouts.samples

    def loss(self, update: Update) -> tuple[Tensor, Metrics]:
        weights = rwr_weights(update.rollout.rewards, self.settings)
        noised = update.noised(update.samples)
        error = noised.error(noised.velocity(update.policy, update.learner.network))
        watched = reward_metrics(update.rollout.rewards, weights - 1)
        return (update.of_samples(weights) * error).mean(), {**watched, "weight_max": weights.max()}
