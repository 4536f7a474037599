"""Answers and scores as bytes between a reward's server and its client: numpy's own archive one way, JSON the other."""

import io
import zipfile
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate.errors import DataError
from rewards.reward import Answer, Scored, Unit

MEDIA_TYPE = "application/x-npz"


class Column(BaseModel):
    """One column of scores; a value is null exactly where there is a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    unit: Unit
    values: tuple[float | None, ...]
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, column: Scored) -> "Column":
        values = (None if reason else float(value) for value, reason in zip(column.value, column.reasons))
        return cls(name=column.name, unit=column.unit, values=tuple(values), reasons=column.reasons)

    def scored(self) -> Scored:
        """Raises DataError for values and reasons that contradict each other."""
        values = np.array([np.nan if value is None else value for value in self.values], float)
        return Scored(self.name, self.unit, values, self.reasons)


class Reply(BaseModel):
    """What a server answers to one batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[Column, ...] = Field(min_length=1)


def packed(answers: Sequence[Answer]) -> bytes:
    buffer = io.BytesIO()
    frames = {f"frames{index}": one.frames for index, one in enumerate(answers)}
    prompts = np.array([one.prompt for one in answers], np.str_)
    np.savez(buffer, allow_pickle=False, prompts=prompts, fps=np.array([one.fps for one in answers], float), **frames)
    return buffer.getvalue()


def unpacked(body: bytes) -> list[Answer]:
    """Raises DataError for bytes that hold no answers. Nothing of them is run: pickles are refused."""
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as held:
            prompts, fps = held["prompts"].tolist(), held["fps"].tolist()
            answers = [
                Answer(prompt, held[f"frames{index}"], rate) for index, (prompt, rate) in enumerate(zip(prompts, fps))
            ]
        if not answers:
            raise ValueError("none")
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"a body that holds no answers ({error})", "send what `rewards.wire.packed` makes") from error
    for one in answers:
        if one.frames.ndim != 4 or one.frames.shape[-1] != 3 or one.frames.dtype != np.uint8 or not len(one.frames):
            raise DataError(f"frames of {one.frames.dtype} {one.frames.shape}", "send uint8 (frames, height, width, 3)")
        if not one.fps > 0:
            raise DataError(f"{one.fps} frames a second", "send the video's rate")
    return answers


def read_reply(body: bytes, items: int) -> tuple[Scored, ...]:
    """Raises DataError for a reply that is none, or of another number of items."""
    try:
        columns = tuple(column.scored() for column in Reply.model_validate_json(body).columns)
    except ValidationError as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"a reply that holds no scores ({said})", "check that both sides have one version") from error
    if any(len(column.value) != items for column in columns):
        raise DataError(f"a reply about other than {items} answers", "check that both sides have one version")
    return columns
