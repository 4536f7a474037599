"""Named sizes. `tiny` is for tests; `shapes` is what the shipped checkpoint was trained at."""

from dataclasses import dataclass

from models.codec import Patch, grid_of
from models.conditions import LONGEST, VOCABULARY
from models.dit import DitShape


@dataclass(frozen=True)
class Flavour:
    width: int
    depth: int
    heads: int
    patch: Patch  # of the codec: frames, height, width
    channels: int  # of the codec's latents


FLAVOURS = {
    "tiny": Flavour(width=32, depth=2, heads=2, patch=(4, 6, 6), channels=32),
    "shapes": Flavour(width=128, depth=6, heads=4, patch=(8, 5, 5), channels=128),
}


def network_shape(flavour: Flavour) -> DitShape:
    return DitShape(
        flavour.width, flavour.depth, flavour.heads, flavour.channels, grid_of(flavour.patch), VOCABULARY, LONGEST
    )
