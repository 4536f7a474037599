"""The shapes world's verifier as a reward: what a program sees in a clip, as one number."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from pydantic import Field, model_validator

from alignment.scoring import Rewards
from palate import shapes
from palate.config import Settings
from palate.errors import DataError

FAMILIES: tuple[shapes.Family, ...] = ("single", "events", "count")


class VerifierSettings(Settings):
    """Weights of: every check holds; the share of checks that hold; even motion; a clean picture. All are 0 to 1.

    `families` are the kinds of caption that are asked, each as often as another.
    """

    kind: Literal["verifier"] = "verifier"
    strict: float = Field(default=1.0, ge=0)
    fraction: float = Field(default=1.0, ge=0)
    motion: float = Field(default=0.0, ge=0)
    visual: float = Field(default=0.0, ge=0)
    families: tuple[shapes.Family, ...] = FAMILIES

    @property
    def most(self) -> float:
        """What a clip is paid where all is well."""
        return self.strict + self.fraction + self.motion + self.visual

    @model_validator(mode="after")
    def _asks_for_something(self) -> "VerifierSettings":
        if not self.most:
            raise ValueError("every weight is 0, so nothing is rewarded")
        if not self.families:
            raise ValueError(f"no families to ask; choose some of {', '.join(get_args(shapes.Family))}")
        return self


class Verifier:
    """A reward, and the captions to ask (of the train split: what is held out is for examinations)."""

    def __init__(self, settings: VerifierSettings) -> None:
        self.settings = settings

    def __call__(
        self, prompts: Sequence[str], clips: UInt8[NDArray[np.uint8], "batch frames height width 3"]
    ) -> Rewards:
        return np.array([self._one(prompt, clip) for prompt, clip in zip(prompts, clips, strict=True)])

    def _one(self, prompt: str, clip: shapes.Frames) -> float:
        told = self.settings
        try:
            seen, scene = shapes.observe(clip), shapes.scene_of(prompt)
        except DataError:
            return np.nan  # a caption or a clip that the verifier cannot judge
        checks = shapes.check(seen, scene)
        parts = told.strict * checks.strict + told.fraction * checks.fraction
        return parts + told.motion * seen.motion + told.visual * seen.visual

    def ask(self, count: int, seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [str(shapes.draw_scene(rng, "train", self.settings.families)) for _ in range(count)]
