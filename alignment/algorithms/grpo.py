"""Flow-GRPO (Liu et al., arXiv:2505.05470) and its family: policy gradients on random denoise steps.

The ODE becomes Gaussian steps (models/sde.py), whose log-probabilities under the present and the sampling policy give
PPO's clipped loss with group-relative advantages A (alignment/advantage.py), over the steps of the window:

    ratio = exp(log p - log p_old),   L = mean max(-A ratio, -A clamp(ratio, 1 - clip, 1 + clip)) + kl KL

* Denoising reduction: rollouts of few steps (`rollout.steps`), whatever the finished model is sampled with.
* Window, "Fast" and MixGRPO (arXiv:2507.21802): only `window.width` steps are random and trained on.
* KL in two scalings. `gaussian`: KL of the two steps, |mean - mean_ref|^2 / (2 g^2 h). `flow_grpo`: without the h, as
  that repository has it (its issue 22), which weighs late steps more. Both the mean over values.
* Guard (GRPO-Guard, arXiv:2510.22319): ratio = exp((log p - log p_old + |mean - mean_old|^2 / (2 k^2)) k) with
  k = g sqrt(h), which takes out the bias of the ratio below 1 and makes the clip mean the same at every step; the loss
  is divided by h.

Departures. (1) The last denoise step is never random: its noise would stay in the picture. (2) With `window.branch` the
first random step has one state a prompt, so its update is one evaluation a prompt and not one a sample; the gradient is
the same to rounding. (3) Samples without a reward, or of a tied group, have advantage 0 and so no gradient, but count
in the mean. (4) With sampler `cps` the log-probability keeps its variance, so a clip of flow_grpo's has to be divided
by 2 deviation^2. (5) A first update takes what guidance leads away from, through which no gradient goes, from the
rollout. (6) Steps go backward one by one, so that a wider window keeps no more for its backward pass.
"""

from collections import defaultdict
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from alignment.advantage import AdvantageSettings, advantages, reward_metrics
from alignment.online import Metrics, Update, one_by_one
from alignment.policy import Learner
from alignment.rollout import RandomStep, RolloutSettings, Rows, WindowSettings
from models.sde import State, Transition
from palate.config import Settings
from palate.errors import PalateError

Each = Float[Tensor, " batch"]


class GrpoSettings(Settings):
    """`clip` is of the ratio, whose log is a mean over values: hence so small. `kl` weighs the KL to the start."""

    advantage: AdvantageSettings = AdvantageSettings()
    window: WindowSettings = WindowSettings()
    clip: float = Field(default=1e-4, gt=0)
    kl: float = Field(default=0.0, ge=0)
    kl_scaling: Literal["gaussian", "flow_grpo"] = "gaussian"
    guard: bool = False


class OffPolicyError(PalateError):
    """The policy that trains is not, to the last bits, the one that drew the samples."""


def ratio_of(end: State, new: Transition, old: Transition, guard: bool) -> Each:
    """How much likelier the step to `end` is under the present policy than under the one that drew it."""
    log_ratio = new.log_probability(end) - old.log_probability(end)
    if not guard:
        return log_ratio.exp()
    return ((log_ratio + new.divergence(old)) * new.deviation).exp()


def clipped(ratio: Each, advantage: Each, clip: float) -> Each:
    """PPO's loss of each sample."""
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))


def divergence(new: Transition, reference: Transition, span: float, scaling: Literal["gaussian", "flow_grpo"]) -> Each:
    """KL(new, reference) of a step of `span`; `flow_grpo`: without the span in its variance."""
    return new.divergence(reference) * (span if scaling == "flow_grpo" else 1.0)


class Grpo:
    """Satisfies alignment.online.Algorithm."""

    behaviour = False

    def __init__(self, settings: GrpoSettings) -> None:
        self.settings, self.window = settings, settings.window
        self.reference = settings.kl > 0

    def begin(self, round_: int, learner: Learner) -> None:
        """Nothing is kept from round to round."""

    def trained_rows(self, rollouts: RolloutSettings) -> int:
        first = rollouts.prompts if self.window.branch else rollouts.samples
        return first + (self.window.width - 1) * rollouts.samples

    def loss(self, update: Update) -> tuple[Tensor, Metrics]:
        told, rollout = self.settings, update.rollout
        given = advantages(rollout.rewards, told.advantage)
        advantage, rows = update.of_samples(given), update.samples
        watched: dict[str, list[Tensor]] = defaultdict(list)

        def part_of(step: RandomStep) -> Tensor:
            new, reference = self._steps(update, step, rows)
            ratio = ratio_of(step.end[rows], new, step.old[step.row[rows]], told.guard)
            if update.first:
                refuse_off_policy(ratio, told.clip)
            span = step.now - step.after
            part = clipped(ratio, advantage, told.clip).mean() / (span if told.guard else 1.0)
            if reference:
                kl = divergence(new, reference, span, told.kl_scaling).mean()
                part = part + told.kl * kl
                watched["kl"].append(kl.detach())
            watched["clipfrac"].append(((ratio.detach() - 1).abs() > told.clip).float().mean())
            watched["approx_kl"].append(0.5 * ratio.detach().log().square().mean())
            return part / len(rollout.random_steps)

        total = one_by_one(part_of, rollout.random_steps)
        means = {name: torch.stack(values).mean() for name, values in watched.items()}
        return total, {**means, **reward_metrics(rollout.rewards, given)}

    def _steps(self, update: Update, step: RandomStep, rows: Rows) -> tuple[Transition, Transition | None]:
        """The step's Gaussian for each of `rows`, under the present network and under the reference if there is one."""
        starts, place = step.row[rows].unique(return_inverse=True)  # in order, so in the batches of the rollout
        x = step.start[starts]
        t = torch.full((len(x),), step.now, device=x.device)
        shared = len(step.start) < len(step.end)
        conditions = update.rollout.conditions[starts if shared else update.rollout.prompt_of(starts)]

        def by(network: nn.Module, unguided: State | None = None) -> Transition:
            velocity = update.policy.velocity(network, x, t, conditions, unguided)
            return self.window.step(x, velocity, step.now, step.after)[place]

        known = step.unguided[starts] if update.first and step.unguided is not None else None
        new = by(update.learner.network, known)
        if not self.reference:
            return new, None
        with update.learner.under(update.learner.reference) as network:
            return new, by(network)


def refuse_off_policy(ratio: Each, clip: float) -> None:
    """Raises OffPolicyError where a ratio is not 1 before any update, by more than a tenth of the clip."""
    off = float((ratio.detach() - 1).abs().max())
    if not off <= clip / 10:
        raise OffPolicyError(
            f"before any update the policy's ratio to itself is off by {off:.1e}, with a clip of {clip:.1e}",
            "use one precision and one batch size for rollouts and training, no dropout, or a wider clip",
        )
