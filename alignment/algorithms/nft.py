"""DiffusionNFT (Zheng et al., arXiv:2509.16117): policy improvement on the forward process, without a sampler's odds.

A copy of the policy, v_old, draws the samples and follows the policy slowly. With the reward as a probability of being
good, r = clip(A, -limit, limit) / (2 limit) + 1/2, on a sample noised afresh to time t,

    v+ = beta v + (1 - beta) v_old,   v- = (1 + beta) v_old - beta v,   x0+- = x_t - t v+-
    L = mean[ r / beta |x0+ - x0|^2 / w+  +  (1 - r) / beta |x0- - x0|^2 / w- ]  +  kl |v - v_ref|^2

with norms as means over values and w+- = mean |x0+- - x0| without gradient, at least 1e-5.

Departures. The method supposes that v_old is the velocity of the samples it draws; but advantages are 0 on average over
a prompt, so nothing keeps it so: predictions of x0 grow ever longer (`x0_ratio`), and in the end the reward falls.
`anchor` adds anchor |x0_hat - x0|^2 / w, imitation of all samples, good and bad. It slows what the reward teaches, too.

The repository multiplies the first part by its advantage limit of 5: put that into `kl` instead. Its copy
follows by step count; here by rounds: decay = min(rise * round, most).
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from alignment.advantage import AdvantageSettings, advantages, reward_metrics
from alignment.online import Metrics, Noised, Update, mean_square
from alignment.policy import Learner
from alignment.rollout import RolloutSettings
from palate.config import Settings

Each = Float[Tensor, " batch"]


class NftSettings(Settings):
    """`beta` is how far from the old policy the implied good and bad ones lie; `kl` weighs |v - v_start|^2; `anchor`
    weighs imitation of all samples, where advantages / `limit` are what good and bad ones weigh."""

    advantage: AdvantageSettings = AdvantageSettings()
    beta: float = Field(default=1.0, gt=0)
    kl: float = Field(default=1e-4, ge=0)
    anchor: float = Field(default=0.0, ge=0)
    rise: float = Field(default=1e-3, ge=0)
    most: float = Field(default=0.5, ge=0, le=1)


def nft_loss(noised: Noised, v: Tensor, v_old: Tensor, good: Each, beta: float, anchor: float = 0.0) -> Each:
    """The loss above without KL, of each sample. `good` is r, its probability of being good."""
    better, worse = beta * v + (1 - beta) * v_old, (1 + beta) * v_old - beta * v
    parts = [(good / beta, better), ((1 - good) / beta, worse)]
    if anchor:
        parts.append((torch.full_like(good, anchor), v))
    total = torch.zeros_like(good)
    for weight, guess in parts:
        off = noised.x0_of(guess) - noised.x0
        with torch.no_grad():
            scale = off.double().abs().flatten(1).mean(dim=1).clamp_min(1e-5).float()
        total = total + weight * mean_square(off) / scale
    return total


class Nft:
    """Satisfies alignment.online.Algorithm."""

    behaviour = True
    window = None

    def __init__(self, settings: NftSettings) -> None:
        self.settings = settings
        self.reference = settings.kl > 0

    def begin(self, round_: int, learner: Learner) -> None:
        if learner.behaviour is not None:
            learner.behaviour.move_toward(learner.network, min(self.settings.rise * round_, self.settings.most))

    def trained_rows(self, rollouts: RolloutSettings) -> int:
        return rollouts.samples

    def loss(self, update: Update) -> tuple[Tensor, Metrics]:
        told, learner = self.settings, update.learner
        given = advantages(update.rollout.rewards, told.advantage)
        advantage = update.of_samples(given)
        known = update.of_samples(update.rollout.rewards).isfinite()  # no reward is no evidence, for good or bad
        noised = update.noised(update.samples)
        v = noised.velocity(update.policy, learner.network)
        with learner.under(learner.behaviour) as network:
            v_old = noised.velocity(update.policy, network)
        good = advantage / (2 * told.advantage.limit) + 0.5
        total = (known * nft_loss(noised, v, v_old, good, told.beta, told.anchor)).mean()
        length = mean_square(noised.x0_of(v.detach())).mean() / mean_square(noised.x0).mean()
        watched = {"old_deviate": mean_square(v - v_old).mean().detach(), "x0_ratio": length.sqrt()}
        if told.kl:
            kl = update.moved_from_start(noised, v)
            total, watched["kl"] = total + told.kl * kl, kl.detach()
        return total, {**watched, **reward_metrics(update.rollout.rewards, given)}
