"""Reward-guided sampling (Flow-NRG of VideoAlign, arXiv:2501.13918): a reward on noised latents bends the flow.

The score of p_t(x) exp(w r(x, t)) is that of p_t plus w grad r, and in velocities, x_t = (1 - t) x0 + t eps,

    v = v_model - w t / (1 - t) grad_x r(x_t, t)

Where r(x, t) is the log of the mean of exp(r(x0)) given x_t = x, this samples exp(w r) p exactly for w = 1. The factor
is singular at t = 1, where the noise knows nothing of the video: times above `latest` are not guided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from models import flow
from models.conditions import tokens
from models.flow import Latents, Predict, Times
from models.generator import Generator, SamplerSettings
from palate.errors import ConfigError
from palate.records import Axis
from rewards.shapes_encoder import ShapesEncoder

NoisyReward = Callable[[Latents, Times], Float[Tensor, " batch"]]  # (x_t, t) -> logits


def guided_by(predict: Predict, reward: NoisyReward, weight: float, latest: float = 0.98) -> Predict:
    """x0 of the bent flow: since v = (x_t - x0) / t, x0 moves by w t^2 / (1 - t) grad r."""

    def bent(x: Latents, t: Times) -> Latents:
        with torch.enable_grad():
            seen = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(reward(seen, t).sum(), seen)
        s = t.to(x.dtype)[:, None, None]
        pull = torch.where(s > latest, 0.0, s.square() / (1 - s).clamp_min(1e-6))
        return predict(x, t) + weight * pull * slope

    return bent


@dataclass(frozen=True)
class Guided:
    """A generator that a reward leads: `clips` as the generator has it. Weigh axes by how many logits each is worth.

    Raises ConfigError for an axis that the reward has not, or a reward on other latents than the generator's.
    """

    generator: Generator
    reward: ShapesEncoder
    weights: dict[Axis, float]
    latest: float = 0.98

    def __post_init__(self) -> None:
        if unknown := [axis for axis in self.weights if axis not in self.reward.axes]:
            raise ConfigError(f"the reward has no axis {unknown[0]}", f"weigh {', '.join(self.reward.axes)}")
        ours, theirs = self.generator.codec.tensors(), self.reward.codec.tensors()
        if any(ours[name].shape != theirs[name].shape or not torch.equal(ours[name], theirs[name]) for name in ours):
            raise ConfigError("the reward reads other latents than the generator draws", "train it on that generator")

    def clips(self, prompts: Sequence[str], seeds: Sequence[int], sampler: SamplerSettings) -> NDArray[np.uint8]:
        """uint8 (prompts, frames, height, width, 3)."""
        words = tokens(prompts)
        weight = torch.tensor([self.weights.get(axis, 0.0) for axis in self.reward.axes])

        def reward(x: Latents, t: Times) -> Float[Tensor, " batch"]:
            return self.reward.scores(x, t, words) @ weight

        with torch.no_grad():
            predict = guided_by(self.generator.predictor(words, sampler.guidance), reward, 1.0, self.latest)
            latents = flow.euler(predict, self.generator.noise(seeds), flow.grid(sampler.steps, sampler.shift))
        return self.generator.codec.decode(latents).numpy()
