"""The gallery of a policy that learns (models/gallery.py), and its strips of frames for trackers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from alignment.policy import Policy
from alignment.rollout import Drawing, RolloutSettings, generator_of
from alignment.trackers import Trackers
from models.gallery import Clips, Gallery

FRAMES = 8  # of a strip
LOOKED = 2**31 + 1  # a number that no round has, and no look of the alarm's


def drawn(
    policy: Policy, network: nn.Module, prompts: Sequence[str], rollouts: RolloutSettings, seed: int
) -> Callable[[], Clips]:
    """Draws the prompts as the network does now, each from its own noise, by the ODE."""
    alone = rollouts.model_copy(update={"group": 1})

    def draw() -> Clips:
        clips: list[torch.Tensor] = []
        chances = [generator_of(seed, LOOKED, place) for place in range(len(prompts))]
        drawing = Drawing(policy, network, alone, None, alone.steps)
        drawing.blocks(prompts, policy.conditions(prompts), chances, None, clips.append)
        return torch.cat(clips).cpu().numpy()

    return draw


def gallery_of(
    draw: Callable[[], Clips],
    prompts: Sequence[str],
    every: int,
    last: int,
    fps: float,
    folder: Path,
    trackers: Trackers,
) -> Gallery:
    def show(clips: Clips, step: int) -> None:
        trackers.show({f"{at}: {prompt}": strip(clip) for at, (prompt, clip) in enumerate(zip(prompts, clips))}, step)

    return Gallery(folder, prompts, draw, every, last, fps, show)


def strip(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Up to FRAMES frames, evenly taken, side by side."""
    taken = np.linspace(0, len(clip) - 1, min(FRAMES, len(clip))).round().astype(int)
    return np.concatenate(list(clip[taken]), axis=1)
