"""AWM, advantage-weighted matching (Xue et al., arXiv:2509.25050): PPO whose log-probability is the matching loss.

    log p := -w(t) |v - (eps - x0)|^2,   ratio = exp(log p - log p_old) at the same t and eps
    L = mean max(-A ratio, -A clamp(ratio, 1 - clip, 1 + clip)) + kl |v - v_ref|^2

with norms as means over values, and w(t) = 1, t or t^2 (`weight` 0, 1, 2). A round's t and eps are drawn anew for each
update.

Departures. The paper's KL is to a moving average of the policy; here to where the run started. Its two Huber-like
weights are left out.
"""

from pydantic import Field
from torch import Tensor

from alignment.advantage import AdvantageSettings, advantages, reward_metrics
from alignment.algorithms.grpo import clipped
from alignment.online import Metrics, Update
from alignment.policy import Learner
from alignment.rollout import RolloutSettings
from palate.config import Settings


class AwmSettings(Settings):
    """`clip` is of the ratio; `weight` the power of t; `kl` weighs |v - v_start|^2."""

    advantage: AdvantageSettings = AdvantageSettings()
    clip: float = Field(default=0.05, gt=0)
    weight: int = Field(default=0, ge=0, le=2)
    kl: float = Field(default=0.0, ge=0)


class Awm:
    """Satisfies alignment.online.Algorithm."""

    behaviour = True
    window = None

    def __init__(self, settings: AwmSettings) -> None:
        self.settings = settings
        self.reference = settings.kl > 0

    def begin(self, round_: int, learner: Learner) -> None:
        if learner.behaviour is not None:
            learner.behaviour.move_toward(learner.network, 0.0)

    def trained_rows(self, rollouts: RolloutSettings) -> int:
        return rollouts.samples

    def loss(self, update: Update) -> tuple[Tensor, Metrics]:
        told, learner = self.settings, update.learner
        given = advantages(update.rollout.rewards, told.advantage)
        noised = update.noised(update.samples)
        v = noised.velocity(update.policy, learner.network)
        with learner.under(learner.behaviour) as network:
            old = noised.error(noised.velocity(update.policy, network))
        ratio = (noised.t**told.weight * (old - noised.error(v))).exp()
        total = clipped(ratio, update.of_samples(given), told.clip).mean()
        watched = {"clipfrac": ((ratio - 1).abs() > told.clip).float().mean()}
        if told.kl:
            kl = update.moved_from_start(noised, v)
            total, watched["kl"] = total + told.kl * kl, kl.detach()
        return total, {**watched, **reward_metrics(update.rollout.rewards, given)}
