"""The face that a reward's network has, whatever lies behind it."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palate.errors import ConfigError
from palate.records import Axis
from rewards.reward import Answer

AxisScores = Float[Tensor, "batch axes"]  # logits
BLIND: tuple[Axis, ...] = ("visual_quality", "motion_quality")  # axes that are not to see the prompt


class Encoder(nn.Module, ABC):
    """One score an axis, of an answer. `prepare` is done once a video, `forward` once a batch."""

    kind: ClassVar[str]
    axes: tuple[Axis, ...]

    @abstractmethod
    def prepare(self, answer: Answer) -> Any:
        """What the network sees of an answer. Raises a PalateError that says why it cannot."""

    def noised(self, prepared: Any, rng: torch.Generator) -> Any:
        """The same video under noise, for a reward that is to guide a sampler. Raises ConfigError: this one cannot."""
        raise ConfigError(f"a {self.kind} encoder sees no latents", "leave out `noised`")

    @abstractmethod
    def forward(self, prepared: list[Any]) -> AxisScores: ...

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """What `from_card` needs beside the tensors, as JSON; `kind` among it."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint holds."""

    @classmethod
    @abstractmethod
    def from_card(cls, card: dict[str, Any], axes: tuple[Axis, ...], tensors: dict[str, Tensor]) -> Self:
        """Raises KeyError, TypeError or RuntimeError for tensors that do not fit the card."""
