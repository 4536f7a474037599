"""What can be measured of any video from its pixels alone. None of these says whether a video is good.

Luminance is that of BT.709. Differences between frames are per frame, as a codec or an eye meets them, not per second.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from palate.errors import ConfigError
from palate.media import Frames
from rewards.reward import Answer, Scored, Unit

Luminance = Float[NDArray[np.float64], "frames height width"]
BLACK, WHITE = 8, 247  # grey levels at and beyond which nothing can be seen


def luminance(frames: Frames) -> Luminance:
    return np.asarray(frames, float) @ np.array([0.2126, 0.7152, 0.0722])


def motion(frames: Frames) -> float:
    """Mean absolute difference of successive frames. Needs two."""
    return float(np.abs(np.diff(luminance(frames), axis=0)).mean())


def jerk(frames: Frames) -> float:
    """Mean absolute second difference over time: 0 where every pixel changes evenly, or not at all. Needs three."""
    return float(np.abs(np.diff(luminance(frames), n=2, axis=0)).mean())


def flicker(frames: Frames) -> float:
    """Mean absolute second difference of the frames' mean luminance: what moves leaves it alone. Needs three."""
    return float(np.abs(np.diff(luminance(frames).mean(axis=(1, 2)), n=2)).mean())


def sharpness(frames: Frames) -> float:
    """Mean absolute Laplacian over four neighbours, the border left out."""
    y = luminance(frames)
    inner = 4 * y[:, 1:-1, 1:-1] - y[:, :-2, 1:-1] - y[:, 2:, 1:-1] - y[:, 1:-1, :-2] - y[:, 1:-1, 2:]
    return float(np.abs(inner).mean())


def exposure(frames: Frames) -> float:
    """Share of pixels that are neither black nor white."""
    y = luminance(frames)
    return float(((y > BLACK) & (y < WHITE)).mean())


def colourfulness(frames: Frames) -> float:
    """Hasler and Suesstrunk (2003), eq. 9-12; their "highly colourful" is about 82."""
    red, green, blue = np.moveaxis(frames.astype(float), -1, 0)
    opponent = np.stack([red - green, (red + green) / 2 - blue]).reshape(2, -1)
    return float(np.hypot(*opponent.std(axis=1)) + 0.3 * np.hypot(*opponent.mean(axis=1)))


def compressibility(frames: Frames) -> float:
    """Size of the frames when deflated, as each frame's difference from the last with bytes wrapped."""
    change = np.diff(frames, axis=0, prepend=np.zeros_like(frames[:1]))
    return 8 * len(zlib.compress(change.tobytes(), 6)) / frames[..., 0].size


@dataclass(frozen=True)
class Measure:
    of: Callable[[Frames], float]
    unit: Unit
    frames: int  # the fewest that it needs


MEASURES = {
    "motion": Measure(motion, Unit.GREY, 2),
    "jerk": Measure(jerk, Unit.GREY, 3),
    "flicker": Measure(flicker, Unit.GREY, 3),
    "sharpness": Measure(sharpness, Unit.GREY, 1),
    "exposure": Measure(exposure, Unit.SHARE, 1),
    "colourfulness": Measure(colourfulness, Unit.GREY, 1),
    "compressibility": Measure(compressibility, Unit.BITS, 1),
}


@dataclass(frozen=True)
class PixelReward:
    """Satisfies `Reward`: a column `pixels.<name>` for each name. Raises ConfigError for an unknown one."""

    names: tuple[str, ...] = tuple(MEASURES)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.names if name not in MEASURES]:
            raise ConfigError(f"pixels do not tell {unknown[0]!r}", f"choose among {', '.join(MEASURES)}")

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        return tuple(_column(name, MEASURES[name], answers) for name in self.names)


def _column(name: str, measure: Measure, answers: Sequence[Answer]) -> Scored:
    found = [
        measure.of(one.frames) if len(one.frames) >= measure.frames else f"it needs {measure.frames} frames"
        for one in answers
    ]
    return Scored.of(f"pixels.{name}", measure.unit, found)
