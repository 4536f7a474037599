"""VideoReward: one model, one score an axis (Liu et al., VideoAlign, arXiv:2501.13918), behind one face.

Two encoders have that face: a small one for the shapes world, and a vision-language model. A reward is an encoder, what
its scores were on the calibration videos, and how clearly people who see equals call them the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from models.weights import Card, file_hash, load_checkpoint, save_checkpoint
from palate.errors import CheckpointError, ConfigError, PalateError
from palate.records import Axis
from rewards.encoder import Encoder
from rewards.pairs import PairSet
from rewards.reward import Answer, Scored, Unit, standardised

if TYPE_CHECKING:
    from rewards.vlm_encoder import VlmEncoder

INSTALL = "pip install 'palate[vlm]'"


@dataclass(frozen=True)
class Calibration:
    """Mean and standard deviation of an axis's scores on the calibration videos, in logits."""

    mean: float
    deviation: float


@dataclass
class VideoReward:
    """Satisfies `Reward`: a column an axis, called `<name>.<axis>`; with `standardise` in calibrated deviations."""

    encoder: Encoder
    calibration: Mapping[Axis, Calibration]
    card: Card
    name: str = "video_reward"
    standardise: bool = True
    batch: int = 32
    checkpoint: str = ""

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu", standardise: bool = True) -> "VideoReward":
        """Raises CheckpointError for a missing or damaged file, or one of another kind."""
        tensors, card = load_checkpoint(path)
        try:
            axes = tuple(card["axes"])
            encoder = encoder_class(card["encoder"]["kind"]).from_card(card["encoder"], axes, tensors)
            calibration = {axis: Calibration(**numbers) for axis, numbers in card["calibration"].items()}
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{path} holds no reward ({error})", "give one of `palate reward train`") from error
        return cls(encoder.to(device).eval(), calibration, card, standardise=standardise, checkpoint=file_hash(path))

    def save(self, path: Path) -> str:
        """Writes the checkpoint; returns and keeps its SHA-256."""
        numbers = {axis: {"mean": one.mean, "deviation": one.deviation} for axis, one in self.calibration.items()}
        card = {**self.card, "axes": self.axes, "encoder": self.encoder.card(), "calibration": numbers}
        self.checkpoint = save_checkpoint(path, self.encoder.tensors(), card)
        return self.checkpoint

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.encoder.axes

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        values, reasons = raw_scores(self.encoder, answers, self.batch)
        columns = [
            Scored(f"{self.name}.{axis}", Unit.LOGITS, values[:, place], reasons)
            for place, axis in enumerate(self.axes)
        ]
        if not self.standardise:
            return tuple(columns)
        scale = (self.calibration[axis] for axis in self.axes)
        return tuple(standardised(column, one.mean, one.deviation) for column, one in zip(columns, scale))


@torch.no_grad()
def raw_scores(
    encoder: Encoder, answers: Sequence[Answer], batch: int = 32
) -> tuple[Float[np.ndarray, "answers axes"], tuple[str, ...]]:
    """Logits, nan where the encoder cannot see an answer, and why."""
    values, reasons = np.full((len(answers), len(encoder.axes)), np.nan), [""] * len(answers)
    seen: list[tuple[int, Any]] = []
    for index, answer in enumerate(answers):
        try:
            seen.append((index, encoder.prepare(answer)))
        except PalateError as error:
            reasons[index] = str(error)
    for start in range(0, len(seen), batch):
        rows, prepared = zip(*seen[start : start + batch])
        values[list(rows)] = encoder(list(prepared)).double().cpu().numpy()
    return values, tuple(reasons)


def score_videos(model: VideoReward, pairs: PairSet) -> Float[np.ndarray, "videos axes"]:
    """Of the videos that are in a pair, each decoded and encoded once; nan where there is no score."""
    used = np.unique(np.concatenate([pairs.first, pairs.second]))
    values = np.full((len(pairs.videos), len(model.axes)), np.nan)
    for part in (used[start : start + model.batch] for start in range(0, len(used), model.batch)):
        columns = model.score([pairs.videos[row].answer() for row in part])
        values[part] = np.stack([column.value for column in columns], axis=1)
    return values


def encoder_class(kind: str) -> type[Encoder]:
    """Imports no more than the encoder that is asked for. Raises KeyError for an unknown kind."""
    if kind == "shapes":
        from rewards.shapes_encoder import ShapesEncoder

        return ShapesEncoder
    if kind == "vlm":
        return vlm_encoder()
    raise KeyError(kind)


def vlm_encoder() -> "type[VlmEncoder]":
    """Raises ConfigError where the libraries that it stands on are not installed."""
    try:
        from rewards.vlm_encoder import VlmEncoder
    except ImportError as error:
        raise ConfigError(f"a vision-language reward needs peft and transformers ({error})", INSTALL) from error
    return VlmEncoder
