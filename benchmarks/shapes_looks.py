"""What lies over the whole picture of a shapes clip: a style, a weather, an effect. Each can be taken off again."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from palate.shapes import FRAMES, Frames

Colour = tuple[int, int, int]

SHOWS = 40.0  # of 255: how much a ground changes, at the most, where a look can be told from its absence
NEAR = 20.0  # how far a ground may lie from where the look has it


@dataclass(frozen=True)
class Look:
    """Each channel p of frame t is shown as `share[t] p + (1 - share[t]) light`, or as 255 - p where the share is -1.

    Attributes:
        name: of the check that it is there.
        share: (FRAMES,) how much of the picture is seen through it.
        light: what shines in where the picture does not.
    """

    name: str
    share: tuple[float, ...]
    light: float

    def put_on(self, frames: Frames) -> Frames:
        return _bytes(self._gain * frames + self._lift)

    def taken_off(self, frames: Frames) -> Frames:
        return _bytes((frames - self._lift) / self._gain)

    def shows_on(self, ground: Colour) -> bool:
        return bool(np.abs(self._ground(ground) - ground).max() >= SHOWS)

    def is_on(self, frames: Frames, ground: Colour) -> bool:
        """Whether the ground, which is most of each frame, looks in every frame as it does under this."""
        seen = np.median(frames, axis=(1, 2))
        return bool(np.abs(seen - self._ground(ground)).max() <= NEAR)

    def _ground(self, ground: Colour) -> NDArray[np.float64]:
        """(FRAMES, 3)."""
        return (self._gain * np.array(ground) + self._lift)[:, 0, 0]

    @property
    def _gain(self) -> NDArray[np.float64]:
        return np.array(self.share)[:, None, None, None]

    @property
    def _lift(self) -> NDArray[np.float64]:
        return np.where(self._gain < 0, 255.0, (1 - self._gain) * self.light)


def _bytes(values: NDArray[np.floating]) -> Frames:
    return cast("Frames", np.rint(values).clip(0, 255).astype(np.uint8))


NEGATIVE = Look("negative", (-1.0,) * FRAMES, 0.0)
FOG = Look("fog", tuple(1 - 0.6 * t / (FRAMES - 1) for t in range(FRAMES)), 205.0)  # thickens to 60%
FLASH = Look("flash", (1.0, 1.0, 1.0, 0.4, 0.6, 0.8, 1.0, 1.0), 255.0)  # in the fourth frame, and fades
