"""Value-guided matching: a learned value of noisy states says where to go (VGG-Flow, Liu et al., arXiv:2512.05116).

q(x_t) is the chance that the clip which x_t becomes is better than its group's mean. The policy of highest reward near
the start predicts what the start does, moved along the gradient of log q (Doob's transform, as in classifier guidance):

    x0* = x0_start + strength t^2 / (1 - t) grad log q(x_t),   L = mean |x0_hat - x0*|^2 / 2 - mean log-likelihood of q

at states of the policy's own rollouts (`window`: which steps, and how much noise they add, so that q knows what lies
beside the path). One reward teaches q about all of a trajectory, and its gradient is a direction for each value of
x_t, where a policy gradient has one number for a sample. The two share no weights: q is a copy of the network whose
predictions of x0 are weighed to one number, so any generator has one.

Departures. The paper's rewards have gradients; ours are numbers, so q is fitted to what was seen, by logistic
regression. The value alone learns for the first `lead` optimiser steps.

`unfollowed` is |x0_hat - x0*|^2 over |x0_start - x0*|^2: above 1 the policy moves more at random than along the
gradient, and wants a smaller `fit.lr` with a larger `pace`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the usual name)

from alignment.advantage import AdvantageSettings, advantages, reward_metrics
from alignment.online import Metrics, Update, like, mean_square, nothing_to_learn
from alignment.policy import Learner
from alignment.rollout import RandomStep, RolloutSettings, Rows, WindowSettings
from models.sde import State
from palate.config import Settings

Each = Float[Tensor, " batch"]


class ValueSettings(Settings):
    """`window` is which steps' states are learned from, `strength` 1 the transform itself, and `pace` how many times as
    fast as the policy the value learns."""

    advantage: AdvantageSettings = AdvantageSettings()
    window: WindowSettings = WindowSettings(level=0.3, width=4, first=1, last=1, branch=False)
    strength: float = Field(default=1.0, gt=0)
    lead: int = Field(default=20, ge=0)
    pace: float = Field(default=15.0, gt=0)


def guidance(logit: Each, x: State, t: Each, strength: float) -> State:
    """The move of x0_hat above, without gradient. `x` is what `logit` was computed from, and requires its gradient."""
    (slope,) = torch.autograd.grad(F.logsigmoid(logit).sum(), x, retain_graph=True)
    return strength * like(t.square() / (1 - t), x) * slope


class Value:
    """Satisfies alignment.online.Algorithm."""

    reference = True
    behaviour = False

    def __init__(self, settings: ValueSettings) -> None:
        self.settings, self.window, self.critic = settings, settings.window, settings.pace

    def begin(self, round_: int, learner: Learner) -> None:
        """Nothing is kept from round to round."""

    def trained_rows(self, rollouts: RolloutSettings) -> int:
        return rollouts.samples

    def loss(self, update: Update) -> tuple[Tensor, Metrics]:
        told, rollout, learner = self.settings, update.rollout, update.learner
        assert learner.critic is not None
        given = advantages(rollout.rewards, told.advantage)
        advantage = update.of_samples(given)
        known = (advantage != 0).nonzero().squeeze(1)  # no reward, or a group of equals, says nothing
        watched = reward_metrics(rollout.rewards, given)
        if not len(known):
            return nothing_to_learn(), watched
        rows, better = update.samples[known], (advantage[known] > 0).float()
        x, t = states(rollout.random_steps, rows, update.choices(len(rollout.random_steps))[known])
        conditions = rollout.conditions[rollout.prompt_of(rows)]
        logit = learner.critic(update.policy, x.requires_grad_(True), t, conditions)
        move = guidance(logit, x, t, told.strength)
        unlikely = F.binary_cross_entropy_with_logits(logit, better)
        watched["value_loss"] = unlikely.detach()
        watched["value_accuracy"] = ((logit > 0) == (better > 0)).float().mean()
        watched["guidance"] = mean_square(move).mean().sqrt()
        if update.step < told.lead:
            return unlikely, watched
        x = x.detach()
        x0_hat = x - like(t, x) * update.policy.velocity(learner.network, x, t, conditions)
        with learner.under(learner.reference) as start:
            x0_start = x - like(t, x) * update.policy.velocity(start, x, t, conditions)
        off = mean_square(x0_hat - x0_start - move).mean()
        watched["unfollowed"] = off.detach() / mean_square(move).mean()
        return unlikely + off / 2, watched


def states(steps: Sequence[RandomStep], samples: Rows, chosen: Rows) -> tuple[State, Each]:
    """Where each of some samples was at the beginning of one of the random steps, and when."""
    x = torch.stack(
        [steps[step].start[steps[step].row[sample]] for sample, step in zip(samples.tolist(), chosen.tolist())]
    )
    return x.float(), torch.tensor([step.now for step in steps], device=x.device)[chosen]
