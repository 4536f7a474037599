"""Rewards from a recipe: one table a reward, and how they are added up.

[[rewards]]
kind = "remote"
url = "http://gpu-7:8300"
columns = { "video_reward.overall" = "standard deviations" }
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from palate.config import Settings
from palate.errors import ConfigError
from rewards.pixels import MEASURES, PixelReward
from rewards.reward import Composed, Reward, Term, Unit


class Trained(Settings):
    """A checkpoint of `palate reward train` or `import`."""

    kind: Literal["trained"] = "trained"
    path: Path
    standardise: bool = True
    device: str = "auto"

    def build(self) -> Reward:
        from models.weights import device_of
        from rewards.video_reward import VideoReward

        return VideoReward.load(self.path, device_of(self.device), self.standardise)


class Pixels(Settings):
    kind: Literal["pixels"] = "pixels"
    names: tuple[str, ...] = tuple(MEASURES)

    def build(self) -> Reward:
        return PixelReward(self.names)


class Shapes(Settings):
    """What a program checks in the shapes world: `shapes.strict`, `.prompt`, `.motion` and `.visual`."""

    kind: Literal["shapes"] = "shapes"

    def build(self) -> Reward:
        from rewards.programmatic import ShapesReward

        return ShapesReward()


class Ocr(Settings):
    """How well the text that a prompt quotes can be read in the video."""

    kind: Literal["ocr"] = "ocr"
    fps: float = Field(default=1.0, gt=0)

    def build(self) -> Reward:
        from rewards.carried import OcrReward

        return OcrReward(self.fps)


class Safety(Settings):
    """That nobody is shown naked."""

    kind: Literal["safety"] = "safety"
    fps: float = Field(default=1.0, gt=0)

    def build(self) -> Reward:
        from rewards.carried import SafetyReward

        return SafetyReward(self.fps)


class Clip(Settings):
    """CLIP's cosine between prompt and frames, or PickScore's logits; `path` is a folder or a hub's name."""

    kind: Literal["clip", "pickscore"]
    path: str
    fps: float = Field(default=1.0, gt=0)
    device: str = "auto"

    def build(self) -> Reward:
        from models.weights import device_of

        try:
            from rewards.clip import ClipReward
        except ImportError as error:
            raise ConfigError(f"{self.kind} needs transformers ({error})", "pip install 'palate[judge]'") from error
        return ClipReward(self.kind, self.path, self.fps, device_of(self.device))


class Hpsv3(Settings):
    """HPSv3's mean and deviation, in logits; see `rewards.hpsv3.Hpsv3Reward`."""

    kind: Literal["hpsv3"] = "hpsv3"
    path: str = "MizzenAI/HPSv3"
    base: str = "Qwen/Qwen2-VL-7B-Instruct"
    template: str
    fps: float = Field(default=1.0, gt=0)
    device: str = "auto"

    def build(self) -> Reward:
        from models.weights import device_of

        try:
            from rewards.hpsv3 import Hpsv3Reward
        except ImportError as error:
            raise ConfigError(f"hpsv3 needs transformers ({error})", "pip install 'palate[judge]'") from error
        return Hpsv3Reward(self.path, self.base, self.template, self.fps, device_of(self.device))


class Remote(Settings):
    """A reward behind `palate reward serve`; see `rewards.remote.RemoteReward`."""

    kind: Literal["remote"] = "remote"
    url: str
    columns: dict[str, Unit] = Field(min_length=1)
    timeout: float = Field(default=150.0, gt=0)
    tries: int = Field(default=5, ge=1)
    wait: float = Field(default=1.0, ge=0)
    batch: int = Field(default=32, ge=1)
    fatal: bool = False

    def build(self) -> Reward:
        from rewards.remote import RemoteReward

        told = {"batch": self.batch, "fatal": self.fatal}
        return RemoteReward(self.url, self.columns, self.timeout, self.tries, self.wait, **told)


Line = Annotated[Trained | Pixels | Shapes | Ocr | Safety | Clip | Hpsv3 | Remote, Field(discriminator="kind")]


class RewardsRecipe(Settings):
    """What is measured, and, where `terms` says how, its weighted sum as one column `reward`."""

    rewards: tuple[Line, ...] = Field(min_length=1)
    terms: dict[str, Term] = Field(default={})

    def build(self) -> tuple[Reward, ...]:
        built = tuple(line.build() for line in self.rewards)
        return (Composed(built, self.terms),) if self.terms else built


class ServeSettings(Settings):
    """Answers in a batch and in the queue, seconds for a batch to fill, for a request, and megabytes of one."""

    host: str = "127.0.0.1"
    port: int = Field(default=8300, ge=0)
    batch: int = Field(default=32, ge=1)
    waiting: int = Field(default=256, ge=1)
    fill: float = Field(default=0.02, ge=0)
    timeout: float = Field(default=120.0, gt=0)
    megabytes: int = Field(default=256, ge=1)


class ServeRecipe(RewardsRecipe):
    """What `palate reward serve` is told."""

    serve: ServeSettings = ServeSettings()
