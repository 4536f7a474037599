"""What a run draws while it learns: the same prompts from the same noise every so often, as videos in its folder, and
at its end glimpses in the record.

Looking changes nothing: no random number of the run's own is used. It costs `SHOWN` samples a look: 0.02% of the
evaluations of pretraining as the recipe has it, 0.2% of Flow-DPO's, 0.1% of a default run on a reward.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.fit import Progress
from models.generator import Generator, SamplerSettings
from models.launch import first_process
from palate import shapes
from palate.files import writing
from palate.media import MediaFolder, encode_video
from palate.records import Glimpse, Run

SAMPLES, SHOWN = "samples", 4  # of the folder in a run's folder; prompts
SEEN = 240  # pixels: a smaller video is stored larger, so that it can be looked at

Clips = NDArray[np.uint8]  # (prompts, frames, height, width, 3)


class Gallery:
    """Told of every step that is watched; keeps what is drawn at each `every`th, and the `last`, in `samples/step-N`.

    Args:
        draw: the clips of `prompts`, as they are drawn now. All processes draw, since they may share one network.
        told: hears of each look too: the clips and the step.

    Told of a step, it raises FileError where its files cannot be written, as on a full disk.
    """

    def __init__(
        self,
        folder: Path,
        prompts: Sequence[str],
        draw: Callable[[], Clips],
        every: int,
        last: int,
        fps: float,
        told: Callable[[Clips, int], None] = lambda _, __: None,
    ) -> None:
        self.folder, self.prompts, self.draw = folder / SAMPLES, prompts, draw
        self.every, self.last, self.fps, self.told = every, last, fps, told

    def __call__(self, progress: Progress) -> None:
        if not self.every or (progress.step % self.every and progress.step != self.last):
            return
        clips = self.draw()
        if not first_process():
            return
        folder = self.folder / f"step-{progress.step:06d}"
        for place, (prompt, clip) in enumerate(zip(self.prompts, clips)):
            with writing(folder / f"{place}.mp4"):
                encode_video(folder / f"{place}.mp4", clip, self.fps, max(SEEN // max(clip.shape[1:3]), 1))
                (folder / f"{place}.txt").write_text(prompt, encoding="utf-8")
        self.told(clips, progress.step)


def gallery_of(generator: Generator, prompts: Sequence[str], folder: Path, every: int, last: int) -> Gallery:
    """Of the shapes generator, whose weights learn: those of the step, and not their average."""
    seeds = range(len(prompts))
    return Gallery(folder, prompts, lambda: generator.clips(prompts, seeds, SamplerSettings()), every, last, shapes.FPS)


def glimpses(folder: Path, run: Run, media: MediaFolder) -> list[Glimpse]:
    """What the record keeps of a finished run's gallery: all of it."""
    return [
        Glimpse(
            run=run.id,
            step=int(clip.parent.name.removeprefix("step-")),
            place=int(clip.stem),
            prompt=clip.with_suffix(".txt").read_text(encoding="utf-8").strip(),
            media=media.add_file(clip),
        )
        for clip in sorted((folder / SAMPLES).glob("step-*/*.mp4"))
    ]
