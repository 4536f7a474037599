"""What a run's samples look like, every so often: videos (or pictures) in its folder, strips of frames in trackers."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alignment.online import Online
from alignment.trackers import Trackers
from models.fit import Progress
from palate.media import encode_video

SHOWN, FRAMES = 4, 8  # samples of a round, and frames of a strip


class Gallery:
    """Told of every step; keeps the first samples of rounds, each with its prompt, under `samples/step-N`."""

    def __init__(self, objective: Online, every: int, fps: float, folder: Path, trackers: Trackers) -> None:
        self.objective, self.every, self.fps = objective, every, fps
        self.folder, self.trackers = folder / "samples", trackers

    def __call__(self, progress: Progress) -> None:
        if not self.every or progress.step % self.every or not self.objective.shown:
            return
        folder = self.folder / f"step-{progress.step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        strips = {}
        for place, (prompt, clip) in enumerate(self.objective.shown[:SHOWN]):
            encode_video(folder / f"{place}.mp4", clip, self.fps)
            (folder / f"{place}.txt").write_text(prompt + "\n")
            strips[f"{place}: {prompt}"] = strip(clip)
        self.trackers.show(strips, progress.step)


def strip(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Up to FRAMES frames, evenly taken, side by side."""
    taken = np.linspace(0, len(clip) - 1, min(FRAMES, len(clip))).round().astype(int)
    return np.concatenate(list(clip[taken]), axis=1)
