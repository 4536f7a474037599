"""The gallery of a run on a reward (models/gallery.py), and its strips of frames for trackers."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alignment.online import Online
from alignment.rollout import Drawing, generator_of
from alignment.trackers import Trackers
from models.gallery import SHOWN, Clips, Gallery

FRAMES = 8  # of a strip
LOOKED = 2**31 + 1  # a number that no round has, and no look of the alarm's


def gallery_of(objective: Online, every: int, last: int, fps: float, folder: Path, trackers: Trackers) -> Gallery:
    """`SHOWN` of the run's own prompts, each from its own noise, by the ODE."""
    prompts = objective.ask(SHOWN, LOOKED)
    alone = objective.rollouts.model_copy(update={"group": 1})

    def draw() -> Clips:
        clips: list[torch.Tensor] = []
        chances = [generator_of(objective.seed, LOOKED, place) for place in range(len(prompts))]
        drawing = Drawing(objective.policy, objective.learner.network, alone, None, alone.steps)
        drawing.blocks(prompts, objective.policy.conditions(prompts), chances, None, clips.append)
        return torch.cat(clips).cpu().numpy()

    def show(clips: Clips, step: int) -> None:
        trackers.show({f"{at}: {prompt}": strip(clip) for at, (prompt, clip) in enumerate(zip(prompts, clips))}, step)

    return Gallery(folder, prompts, draw, every, last, fps, show)


def strip(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Up to FRAMES frames, evenly taken, side by side."""
    taken = np.linspace(0, len(clip) - 1, min(FRAMES, len(clip))).round().astype(int)
    return np.concatenate(list(clip[taken]), axis=1)
