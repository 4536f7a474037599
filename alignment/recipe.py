"""What an online command is told, and the algorithm that it tells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field, model_validator

from alignment.algorithms.awm import Awm, AwmSettings
from alignment.algorithms.grpo import Grpo, GrpoSettings
from alignment.algorithms.nft import Nft, NftSettings
from alignment.algorithms.nrg import Nrg, NrgSettings
from alignment.algorithms.online_dpo import OnlineDpo, OnlineDpoSettings
from alignment.algorithms.rwr import Rwr, RwrSettings
from alignment.algorithms.sft import Sft, SftSettings
from alignment.lookout import LookSettings
from alignment.online import Algorithm, TimesSettings
from alignment.rollout import RolloutSettings
from alignment.student import GeneratorSettings, ShapesSettings
from alignment.task import MeasuredSettings, RewardSettings
from alignment.verifier import VerifierSettings
from models import flow
from models.fit import FitSettings
from models.launch import world
from palate.config import Settings


class OnlineRecipe(Settings):
    """What every online command is told. A round is one rollout, learned from in `updates` optimiser steps.

    Attributes:
        passes: how often a round is learned from, each time in `updates` steps; algorithms on the forward process noise
            its samples afresh each time (DiffusionNFT's repository learns from every sample at all ten times).
        prompts: a text file, a prompt a line; by default the shapes world's own captions.
        trackers: accelerate's names of what metrics and samples go to, beside the run's folder.
        show_every: optimiser steps between looks at four prompts, the same ones from the same noise, of the steps that
            are watched; 0 keeps none.
    """

    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    updates: int = Field(default=1, ge=1)
    passes: int = Field(default=1, ge=1)
    generator: GeneratorSettings = ShapesSettings()
    prompts: str = ""
    rollout: RolloutSettings = RolloutSettings()
    times: TimesSettings = TimesSettings()
    reward: RewardSettings = VerifierSettings()
    looks: LookSettings = LookSettings()
    trackers: tuple[str, ...] = ("tensorboard",)
    show_every: int = Field(default=20, ge=0)
    shards: ClassVar[bool] = True
    fit: FitSettings = FitSettings(steps=200, lr=1e-4, warmup=5, cooldown=0.1, ema=0.9, save_every=10, watch_every=1)

    @property
    def round_steps(self) -> int:
        """Optimiser steps of a round."""
        return self.updates * self.passes

    @model_validator(mode="after")
    def _whole_rounds(self) -> "OnlineRecipe":
        if self.rollout.prompts % (self.updates * world()):
            raise ValueError(
                f"rollout.prompts ({self.rollout.prompts}) must be a multiple of updates ({self.updates}) times the "
                f"processes ({world()}): every update takes as many prompts on each"
            )
        if self.fit.save_every % self.round_steps or self.fit.steps % self.round_steps:
            raise ValueError(
                f"fit.steps and fit.save_every must be multiples of updates ({self.updates}) times passes "
                f"({self.passes}): rounds are saved whole"
            )
        seen = [one for one in (self.reward, self.looks.gold) if isinstance(one, MeasuredSettings)]
        if self.looks.every and any(one.per_prompt for one in seen):
            raise ValueError("a reward per_prompt is no number to look at over training: leave out looks.every")
        if self.looks.every % self.fit.watch_every:
            raise ValueError(
                f"looks.every ({self.looks.every}) must be a multiple of fit.watch_every ({self.fit.watch_every}): "
                "only steps that are watched are looked at"
            )
        looks = -(-self.fit.steps // self.looks.every) if self.looks.every else 0
        if looks > self.looks.alarm.looks:
            raise ValueError(
                f"looks.alarm.looks ({self.looks.alarm.looks}) plans fewer looks than the {looks} that fit.steps "
                f"({self.fit.steps}) has, one every {self.looks.every}: set looks.alarm.looks={looks}"
            )
        if self.generator.shard and not self.shards:
            raise ValueError("this algorithm learns from other rows on each process, so its weights cannot be sharded")
        return self


class GrpoRecipe(OnlineRecipe):
    grpo: GrpoSettings = GrpoSettings()

    @model_validator(mode="after")
    def _window_fits(self) -> "GrpoRecipe":
        window, steps = self.grpo.window, self.rollout.steps
        if window.last + window.width > steps - 1:
            raise ValueError(
                f"a window of {window.width} from step {window.last} does not fit in {steps} denoise steps, "
                "of which the last is never random"
            )
        return self


class NftRecipe(OnlineRecipe):
    nft: NftSettings = NftSettings()


class NrgRecipe(OnlineRecipe):
    shards = False
    nrg: NrgSettings = NrgSettings()

    @model_validator(mode="after")
    def _leads_something(self) -> "NrgRecipe":
        if not isinstance(self.generator, ShapesSettings):
            raise ValueError("a guide leads the shapes generator alone: no pipeline's sampler asks it")
        passed = flow.grid(self.rollout.steps, self.rollout.shift)
        if not any(self.nrg.earliest <= t <= self.nrg.latest for t in passed):
            raise ValueError("no denoise step of the rollouts is between nrg.earliest and nrg.latest")
        told = self.reward
        if isinstance(told, VerifierSettings) and self.nrg.right > told.most:
            raise ValueError(f"nrg.right ({self.nrg.right:g}) is above the most that the verifier pays ({told.most:g})")
        if self.times.hold:
            raise ValueError("times.hold holds a network that learns, and here none does: set it to 0")
        return self


class AwmRecipe(OnlineRecipe):
    awm: AwmSettings = AwmSettings()


class RwrRecipe(OnlineRecipe):
    rwr: RwrSettings = RwrSettings()


class SftRecipe(OnlineRecipe):
    shards = False
    sft: SftSettings = SftSettings()


class OnlineDpoRecipe(OnlineRecipe):
    shards = False
    dpo: OnlineDpoSettings = OnlineDpoSettings()

    @model_validator(mode="after")
    def _one_reference(self) -> "OnlineDpoRecipe":
        if self.dpo.renew and self.times.hold:
            raise ValueError("dpo.renew moves the reference that times.hold holds to: set one of them to 0")
        return self


@dataclass(frozen=True)
class Kind:
    """A command's recipe, and the algorithm that it tells."""

    about: str
    recipe: type[OnlineRecipe]
    algorithm: Callable[[Any], Algorithm]


ALGORITHMS: dict[str, Kind] = {
    "grpo": Kind("Flow-GRPO", GrpoRecipe, lambda told: Grpo(told.grpo)),
    "nft": Kind("DiffusionNFT", NftRecipe, lambda told: Nft(told.nft)),
    "nrg": Kind("reward-guided sampling", NrgRecipe, lambda told: Nrg(told.nrg)),
    "awm": Kind("advantage-weighted matching", AwmRecipe, lambda told: Awm(told.awm)),
    "rwr": Kind("Flow-RWR", RwrRecipe, lambda told: Rwr(told.rwr)),
    "sft": Kind("RAFT", SftRecipe, lambda told: Sft(told.sft)),
    "online-dpo": Kind("online Flow-DPO", OnlineDpoRecipe, lambda told: OnlineDpo(told.dpo)),
}
