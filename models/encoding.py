"""A pipeline's decoding turned round: a clip becomes the latents that the sampler would have ended with.

From the scheduler's last state to the decoder a pipeline only moves values, scales and shifts them (packing, patches,
the statistics of channels). So the way back is found by sending states down it: all zeros, all ones, and each value's
own number in two digits. A random state is the proof, so there is no list of families to keep up. The encoder is the
decoder's other half, at the mean of what it says, and both ways are in float32 whatever the run computes in.

A clip is brought to the pipeline's settings by one rule (`fitted`): frames at the pipeline's rate from the first on, as
many as it draws; scaled until it covers the size, and cut around the middle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the usual name)

from models.replay import PipelineError
from models.sde import State
from palate.errors import DataError
from palate.media import Video, pick_frames

BASE = 4096  # of the two digits: float32 tells each digit from the next, however it is scaled and shifted
Pixels = Float[Tensor, "frames height width 3"]


@dataclass(frozen=True)
class Way:
    """decoder's input = scale state[place] + shift, value by value of both laid flat; `shape` is the input's.

    `place` (values,) are whole numbers; `scale` and `shift` are one for each value.
    """

    place: Tensor
    scale: Tensor
    shift: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, sent: Callable[[State], Tensor], like: State) -> "Way":
        """`sent` is what reaches the decoder of a state (1, ...) like `like`. Raises PipelineError for another way."""
        number = torch.arange(like.numel(), device=like.device).view_as(like)
        states = (torch.zeros_like(like), torch.ones_like(like), number % BASE, number // BASE)
        zero, one, low, high = (sent(state.float()) for state in states)
        if zero.numel() != like.numel():
            raise PipelineError(
                f"of a state of {like.numel():,} values {zero.numel():,} are decoded, so none can be encoded",
                "give a generator.frames and a size of which the pipeline decodes every value",
            )
        shift, scale = zero.flatten(), (one - zero).flatten()
        low, high = (((told.flatten() - shift) / scale).nan_to_num().round().long() for told in (low, high))
        way = cls(low + BASE * high, scale, shift, tuple(zero.shape))
        proof = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like.device)
        moved = torch.equal(way.place.sort().values, number.flatten())
        if not moved or not torch.allclose(way.back(sent(proof)), proof.flatten(), atol=1e-4):
            raise PipelineError("a pipeline that does not decode value by value cannot be encoded for", "use another")
        return way

    def back(self, z: Tensor) -> Tensor:
        """The state, flat, of which z of `shape` is decoded."""
        found = torch.empty_like(self.scale)
        found[self.place] = (z.flatten().float() - self.shift) / self.scale
        return found


def fitted(video: Video, frames: int, height: int, width: int, fps: float) -> Pixels:
    """A video as so many frames of this size at this rate (0: a picture), 0 to 255. Raises DataError for too few.

    Bicubic, smoothed where it shrinks; what has the size already stays as it is.
    """
    shown = video.frames
    if not fps and len(shown) > 1:
        raise DataError(f"a clip of {len(shown)} frames", "give pictures to a generator of pictures")
    if fps:
        shown = shown[pick_frames(np.arange(len(shown)) / video.fps, fps)]
        if len(shown) < frames:
            raise DataError(
                f"a clip of {video.seconds:.2f} s, where {frames} frames at {fps:g} a second are drawn",
                "leave its pairs out, or set generator.frames",
            )
    pixels = torch.from_numpy(np.array(shown[:frames])).float()
    if pixels.shape[1:3] == (height, width):
        return pixels
    scale = max(height / pixels.shape[1], width / pixels.shape[2])
    size = [max(math.ceil(side * scale - 1e-6), least) for side, least in zip(pixels.shape[1:3], (height, width))]
    large = F.interpolate(pixels.permute(0, 3, 1, 2), size, mode="bicubic", antialias=True).clamp(0, 255)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, :, top : top + height, left : left + width].permute(0, 2, 3, 1)
