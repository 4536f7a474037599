"""Flow-DPO on pairs that the present policy draws: the best and the worst of each group (flow_grpo's online variant).

The loss is the first term of dpo.py, winner and loser under the same time and noise, and an anchor on the winner. The
reference is where the run started, or,
with `renew`, the policy of every so many rounds ago.

Departure: a group whose best and worst are equal makes no pair (flow_grpo labels its first two samples; Flow-Factory
compares a sample with itself).
"""

import torch
from pydantic import Field
from torch import Tensor

from alignment.advantage import Groups, reward_metrics
from alignment.algorithms.dpo import PairErrors, dpo_loss
from alignment.online import Metrics, Noised, Update, nothing_to_learn
from alignment.policy import Learner
from alignment.rollout import RolloutSettings
from palate.config import Settings


class OnlineDpoSettings(Settings):
    """`beta` as in dpo.py; `anchor` weighs the error of the best.

    `renew`: rounds until the reference is made anew, 0 for never.
    """

    beta: float = Field(default=500.0, gt=0)
    anchor: float = Field(default=1.0, ge=0)
    renew: int = Field(default=0, ge=0)


def extremes(rewards: Groups) -> tuple[Tensor, Tensor, Tensor]:
    """Places of the best and the worst in each group, and whether they differ: (prompts,) each."""
    known = rewards.isfinite()
    high = torch.where(known, rewards, -torch.inf).max(dim=1)
    low = torch.where(known, rewards, torch.inf).min(dim=1)
    return high.indices, low.indices, high.values > low.values


class OnlineDpo:
    """Satisfies alignment.online.Algorithm."""

    reference = True
    behaviour = False
    window = None

    def __init__(self, settings: OnlineDpoSettings) -> None:
        self.settings = settings

    def begin(self, round_: int, learner: Learner) -> None:
        if learner.reference is not None and self.settings.renew and round_ % self.settings.renew == 0:
            learner.reference.move_toward(learner.network, 0.0)

    def trained_rows(self, rollouts: RolloutSettings) -> int:
        return 2 * rollouts.prompts

    def loss(self, update: Update) -> tuple[Tensor, Metrics]:
        rewards = update.rollout.rewards
        every = extremes(rewards)
        winner, loser, differ = (part[update.rollout.places[update.prompts]] for part in every)
        share = update.share_of(every[2])
        watched = reward_metrics(rewards, every[2][:, None].float())
        prompts = update.prompts[differ]
        if not len(prompts):
            return nothing_to_learn(), watched
        pairs = torch.cat([prompts * update.rollout.group + place[differ] for place in (winner, loser)])
        one = update.noised(pairs[: len(prompts)])
        conditions = update.rollout.conditions[prompts.repeat(2)]
        both = Noised(update.rollout.latents[pairs], one.t.repeat(2), torch.cat([one.eps] * 2), conditions)
        errors = both.error(both.velocity(update.policy, update.learner.network)).chunk(2)
        with update.learner.under(update.learner.reference) as network:
            fixed = both.error(both.velocity(update.policy, network)).chunk(2)
        loss, seen = dpo_loss(PairErrors(*errors, *fixed), torch.ones_like(errors[0]), self.settings.beta)
        loss = loss + self.settings.anchor * errors[0].mean()
        return loss * len(prompts) / share, {**seen, **watched}
