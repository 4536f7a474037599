"""What a run asks, and what it pays for: prompts of a file or of the shapes world, and a reward by recipe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag

from alignment.scoring import Reward, Rewards
from alignment.verifier import Verifier, VerifierSettings
from palate.config import Settings
from palate.errors import ConfigError
from rewards import reward as scorers
from rewards.pixels import PixelReward
from rewards.remote import RemoteReward
from rewards.reward import Answer, Composed, Term
from rewards.video_reward import VideoReward


class PixelSettings(Settings):
    """Measures of rewards/pixels.py by name, such as `terms."pixels.motion".weight=1`, all in one unit."""

    kind: Literal["pixels"]
    terms: dict[str, Term] = Field(min_length=1)

    def scorer(self) -> scorers.Reward:
        return Composed((PixelReward(tuple(name.removeprefix("pixels.") for name in self.terms)),), self.terms)


class LearnedSettings(Settings):
    """A checkpoint of `palate reward train`; `terms` as `terms."video_reward.overall".weight=1`."""

    kind: Literal["learned"]
    path: str
    terms: dict[str, Term] = Field(min_length=1)

    def scorer(self) -> scorers.Reward:
        return Composed((VideoReward.load(Path(self.path)),), self.terms)


class RemoteSettings(Settings):
    """A server that answers as rewards/remote.py says, asked `tries` times before it counts as dead."""

    kind: Literal["remote"]
    url: str
    seconds: float = Field(default=120.0, gt=0)
    tries: int = Field(default=4, ge=1)

    def scorer(self) -> scorers.Reward:
        return RemoteReward(self.url, self.seconds, self.tries)


def _kind(told: Any) -> str:
    return told.get("kind", "verifier") if isinstance(told, dict) else told.kind


RewardSettings = Annotated[
    Annotated[VerifierSettings, Tag("verifier")]
    | Annotated[PixelSettings, Tag("pixels")]
    | Annotated[LearnedSettings, Tag("learned")]
    | Annotated[RemoteSettings, Tag("remote")],
    Discriminator(_kind),
]


@dataclass(frozen=True)
class Task:
    """`ask` gives prompts from how many and a seed; `text` is what they were drawn from, for the run's identity."""

    ask: Callable[[int, int], list[str]]
    reward: Reward
    text: str

    @classmethod
    def of(cls, reward: RewardSettings, prompts: str, fps: float) -> "Task":
        """Raises ConfigError for a file without prompts, or none where only the shapes world has its own."""
        paid = reward_of(reward, fps)
        if prompts:
            return cls(PromptFile(Path(prompts)), paid, Path(prompts).read_text())
        if isinstance(paid, Verifier):
            return cls(paid.ask, paid, "")
        raise ConfigError("prompts: a reward that is no verifier asks nothing itself", "give prompts=FILE, one a line")


def reward_of(settings: RewardSettings, fps: float) -> Reward:
    if isinstance(settings, VerifierSettings):
        return Verifier(settings)
    scorer = settings.scorer()

    def reward(prompts: Sequence[str], clips: np.ndarray[Any, np.dtype[np.uint8]]) -> Rewards:
        (column,) = scorer.score([Answer(prompt, clip, fps) for prompt, clip in zip(prompts, clips, strict=True)])
        return column.value

    return reward


class PromptFile:
    """One prompt a line; blank lines are none. A round takes each at most once, as long as there are enough."""

    def __init__(self, path: Path) -> None:
        try:
            self.prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"prompts: {path} cannot be read ({error})", "give a text file, a prompt a line"
            ) from error
        if not self.prompts:
            raise ConfigError(f"prompts: {path} is empty", "write a prompt a line")

    def __call__(self, count: int, seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [self.prompts[i] for i in rng.choice(len(self.prompts), count, replace=count > len(self.prompts))]
