"""What a run asks, and what it pays for: prompts of a file or of the shapes world, and a reward by recipe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag

from alignment.scoring import Reward, Rewards
from alignment.verifier import Verifier, VerifierSettings
from palate.errors import ConfigError
from rewards.configured import Remote, RewardsRecipe
from rewards.reward import Answer, Term, advantages, columns_of, weighted


class MeasuredSettings(RewardsRecipe):
    """Rewards as lines of a recipe, see rewards/configured.py, and their weighted sum.

    `per_prompt`: each column in deviations of the samples of its prompt before it is added (GDPO), so that columns of
    any units may be. Such a sum means something among these samples alone: it cannot be looked at over training.
    """

    kind: Literal["measured"]
    terms: dict[str, Term] = Field(min_length=1)
    per_prompt: bool = False

    def reward(self, fps: float) -> Reward:
        """It raises when a server is dead: there is nothing to learn from then."""
        lines = (one.model_copy(update={"fatal": True}) if isinstance(one, Remote) else one for one in self.rewards)
        built = tuple(one.build() for one in lines)

        def reward(prompts: Sequence[str], clips: np.ndarray[Any, np.dtype[np.uint8]]) -> Rewards:
            answers = [Answer(prompt, clip, fps) for prompt, clip in zip(prompts, clips, strict=True)]
            columns = columns_of(built, answers)
            if not self.per_prompt:
                return weighted(columns, self.terms).value
            return advantages(columns, self.terms, np.unique(prompts, return_inverse=True)[1]).value

        return reward


def _kind(told: Any) -> str:
    return told.get("kind", "verifier") if isinstance(told, dict) else getattr(told, "kind", "verifier")


RewardSettings = Annotated[
    Annotated[VerifierSettings, Tag("verifier")] | Annotated[MeasuredSettings, Tag("measured")], Discriminator(_kind)
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
    return Verifier(settings) if isinstance(settings, VerifierSettings) else settings.reward(fps)


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
