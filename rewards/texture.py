"""How cleanly a clip is drawn and how evenly it moves, as 28 numbers that a slope goes through.

Four differences are taken at every pixel: from the clip's median colour, from the mean of the four neighbours, from the
frame before, and of that difference from the one before. Of each, the mean of what lies below a limit (more counts as
the limit), as a share of it, for limits from 2 to 128 grey levels: a faint haze and one torn edge may have one mean,
and differ in these. A network that reads normalised states learns such sums of small magnitudes slowly, if at all.
Shares end at 0 and 1, so a clip unlike all that were learned from is not far away here.
"""

import torch
from jaxtyping import Float
from torch import Tensor

LIMITS = (2, 4, 8, 16, 32, 64, 128)  # grey levels
NUMBERS = 4 * len(LIMITS)


def texture(clips: Float[Tensor, "batch frames height width 3"]) -> Float[Tensor, "batch numbers"]:
    """Of clips in grey levels, at least 3 frames of 3 x 3 pixels: by difference, then by limit; each in 0..1."""
    ground = clips.flatten(1, 3).median(dim=1).values[:, None, None, None]
    inner = clips[:, :, 1:-1, 1:-1]
    around = clips[:, :, :-2, 1:-1] + clips[:, :, 2:, 1:-1] + clips[:, :, 1:-1, :-2] + clips[:, :, 1:-1, 2:]
    differences = (clips - ground, 4 * inner - around, clips.diff(dim=1), clips.diff(n=2, dim=1))
    sizes = [one.abs().mean(dim=-1).flatten(1) for one in differences]
    return torch.stack([(size / limit).clamp(max=1).mean(dim=1) for size in sizes for limit in LIMITS], dim=1)
