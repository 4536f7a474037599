"""A vision-language model of transformers as a captioner: conditions are shown to it as pictures, or told in numbers.

After Any2Caption. It is asked for a JSON object of six parts; palate/caption.py reads what it replies, or refuses it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.language import Content, Sight
from palate.camera import Rays, stance
from palate.caption import PARTS
from palate.givens import UNKNOWN, Givens
from palate.media import Frames
from palate.shapes import Points

SCALE = 8  # pictures of the shapes world are too small for a model's patches
SYSTEM = (
    "You describe a video that is not made yet, from what is given of it: some of a first frame, depth maps, the paths "
    "of its objects, the camera's path, a picture of an object, a segmentation. Reply with a JSON object and nothing "
    f"else, whose keys are {', '.join(PARTS)}, each with one sentence: the whole, the main object, the background, "
    "what the camera does, the visual style, and what the object does. Say only what is given, in plain words; where "
    f'nothing is given of a part, say "{UNKNOWN}".'
)


@dataclass(frozen=True, eq=False)
class SeeingCaptioner:
    sight: Sight
    longest: int = 512

    @classmethod
    def open(cls, path: str | Path, device: str = "auto") -> "SeeingCaptioner":
        """Raises CheckpointError where there is no such model at `path`."""
        return cls(Sight.open(path, device))

    def replies(self, given: Sequence[Givens]) -> list[str]:
        return [self.sight.answer(SYSTEM, content(one), self.longest) for one in given]


def content(given: Givens) -> Content:
    """What is given, each condition under its name."""
    told: list[str | Frames] = []
    if given.image is not None:
        told += ["First frame: ", _enlarged(given.image)]
    if given.depth is not None:
        told += ["\nDepth, lighter is nearer, of the first frame and the last: ", *map(_grey, given.depth[[0, -1]])]
    if given.pose is not None:
        told.append(f"\nObjects' centres in each frame, x to the right and y down, in pixels: {_paths(given.pose)}.")
    if given.camera is not None:
        told.append(f"\nThe camera in each frame, x to the right, y down, z forward: {_stances(given.camera)}.")
    if given.identity is not None:
        told += ["\nOne of the objects: ", _enlarged(given.identity)]
    if given.segmentation is not None:
        told += [
            "\nSegmentation of the first frame: ",
            _grey(given.segmentation / max(int(given.segmentation.max()), 1)),
        ]
    return told


def _enlarged(picture: Frames) -> Frames:
    return picture.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def _grey(lightness: Any) -> Frames:
    """A picture of a map (height, width) of 0..1."""
    return _enlarged(np.rint(255 * lightness).astype(np.uint8)[..., None].repeat(3, axis=-1))


def _paths(centres: Points) -> str:
    return "; ".join(" ".join(f"({x:.1f}, {y:.1f})" for x, y in path) for path in centres)


def _stances(rays: Rays) -> str:
    """From where it stood first; the rays' own origin is anywhere."""
    stands, looks = stance(rays)
    return "; ".join(
        f"at ({', '.join(f'{x:.2f}' for x in at)}) looking along ({', '.join(f'{x:.2f}' for x in to)})"
        for at, to in zip(stands - stands[0], looks)
    )
