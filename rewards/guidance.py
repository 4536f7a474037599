"""Sampling that a learned reward leads (models/guide.py): Flow-NRG of VideoAlign, arXiv:2501.13918."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from models import flow
from models.conditions import tokens
from models.flow import Latents, Times
from models.generator import Generator, SamplerSettings
from models.guide import guided_by
from palate.errors import ConfigError
from palate.records import Axis
from rewards.shapes_encoder import ShapesEncoder


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
