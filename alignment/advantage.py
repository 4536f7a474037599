"""Rewards as advantages: how much better a sample is than the others of its prompt."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from palate.config import Settings

Groups = Float[Tensor, "prompts group"]


class AdvantageSettings(Settings):
    """`scale`: in deviations of the sample's own `group`, of the whole `batch`, or `none` (Dr. GRPO, arXiv:2503.20783).

    `floor` is the least deviation that counts as a difference, in the reward's unit: without it, groups whose rewards
    differ by rounding alone would have advantages as large as any. `limit` bounds what one sample can weigh.
    """

    scale: Literal["group", "batch", "none"] = "batch"
    floor: float = Field(default=0.02, gt=0)
    limit: float = Field(default=5.0, gt=0)


def advantages(rewards: Groups, settings: AdvantageSettings) -> Groups:
    """(reward - mean of its group) / deviation. 0 where the reward is missing (nan), alone in its group, or tied.

    Missing rewards take no part in any mean or deviation.
    """
    known = torch.isfinite(rewards)
    count = known.sum(dim=1, keepdim=True)
    value = torch.where(known, rewards, 0.0).double()
    off = torch.where(known, value - value.sum(dim=1, keepdim=True) / count.clamp_min(1), 0.0)
    if settings.scale == "group":
        deviation = (off.square().sum(dim=1, keepdim=True) / count.clamp_min(1)).sqrt()
    elif settings.scale == "batch":
        mean = value.sum() / known.sum().clamp_min(1)
        deviation = (torch.where(known, value - mean, 0.0).square().sum() / known.sum().clamp_min(1)).sqrt()
    else:
        deviation = torch.ones((), dtype=torch.float64, device=rewards.device)
    return (off / deviation.clamp_min(settings.floor)).clamp(-settings.limit, settings.limit).float()


def reward_metrics(rewards: Groups, given: Groups) -> dict[str, Tensor]:
    """What to watch of a round, under flow_grpo's names where it has one. A round without any reward gives nan."""
    return {
        "reward_mean": rewards.nanmean(),
        "zero_std_ratio": (given == 0).all(dim=1).float().mean(),  # groups that teach nothing
        "reward_failed": rewards.isnan().float().mean(),
    }
