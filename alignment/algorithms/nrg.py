"""A guide taught by the reward (after Flow-NRG of VideoAlign, arXiv:2501.13918): it leads (models/guide.py).

q(x_t) is the chance that the clip which x_t becomes is right: that its reward is at least `right`. It is learned by
logistic regression from states of the policy's own rollouts by the ODE, at flow times from `earliest` to `latest`, and
from the finished samples; of each sample one state a step. So one reward teaches about all of a trajectory, and q's
slope is a direction for every value of x_t, where a policy gradient has one number for a sample. The network stays as
it is.

Departures. The paper's reward is learned from people's preferences and from videos noised afresh; ours from any reward
and from states that the sampler passes, since a video noised afresh is not where the sampler was. The paper leads by
the reward itself; here by log q, as classifier guidance does, which no longer pulls where q is near 1.

Watched are `right`, the share of right samples, and `guide_auc`, how often, of a right and a wrong sample's states, the
right one's is worth more: 0.5 knows nothing.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the usual name)

from alignment.online import EARLIEST, Metrics, Update, nothing_to_learn
from alignment.policy import Learner
from alignment.rollout import Passed, Rollout, RolloutSettings, Rows
from models import flow
from models.sde import State
from palate.config import Settings


class NrgSettings(Settings):
    """A sample is right whose reward is at least `right`. `strength` is how many times as far as q itself says the
    guide leads, and `earliest` .. `latest` are the flow times at which it does."""

    right: float = 1.0
    strength: float = Field(default=12.0, gt=0)
    earliest: float = Field(default=0.6, ge=0, lt=1)
    latest: float = Field(default=0.97, gt=0, lt=1)

    @model_validator(mode="after")
    def _in_order(self) -> "NrgSettings":
        if self.earliest >= self.latest:
            raise ValueError("nrg.earliest must be below nrg.latest: the guide leads at the flow times between them")
        return self


class Nrg:
    """Satisfies alignment.online.Algorithm."""

    reference = False
    behaviour = False
    window = None

    def __init__(self, settings: NrgSettings) -> None:
        self.settings = settings

    def begin(self, round_: int, learner: Learner) -> None:
        """Nothing is kept from round to round."""

    def trained_rows(self, rollouts: RolloutSettings) -> int:
        return rollouts.samples

    def loss(self, update: Update) -> tuple[Tensor, Metrics]:
        rollout, guide = update.rollout, update.learner.guide
        assert guide is not None
        rewards = update.of_samples(rollout.rewards)
        known, share = rewards.isfinite().nonzero().squeeze(1), update.share_of(rollout.rewards.isfinite())
        watched = {"reward_mean": rollout.rewards.nanmean(), "reward_failed": rollout.rewards.isnan().float().mean()}
        if not len(known):
            return nothing_to_learn(), watched
        rows, right = update.samples[known], rewards[known] >= self.settings.right
        x, t = states(rollout, rows, update.choices(len(rollout.path) + 1)[known])
        conditions = rollout.conditions[rollout.prompt_of(rows)]
        logit = guide(x - flow.like(t, x) * update.policy.velocity(guide.network, x, t, conditions))
        loss = F.binary_cross_entropy_with_logits(logit, right.float(), reduction="sum") / share
        watched["right"] = right.float().mean()
        if right.any() and not right.all():
            watched["guide_auc"] = auc(logit.detach(), right)
        return loss, watched


def states(rollout: Rollout, samples: Rows, chosen: Rows) -> tuple[State, flow.Times]:
    """What some samples were at one of the kept times each, or, where the choice is beyond them, are now."""
    passed = [*rollout.path, Passed(EARLIEST, rollout.latents)]
    x = torch.stack([passed[place].x[sample] for sample, place in zip(samples.tolist(), chosen.tolist())])
    return x.float(), torch.tensor([one.t for one in passed], device=x.device)[chosen]


def auc(score: Tensor, right: Tensor) -> Tensor:
    """The share of (right, wrong) in which the right one's score is higher."""
    return (score[right][:, None] > score[~right]).float().mean()
