"""Rewards by models whose packages carry their weights: text that is read (rapidocr), nudity (nudenet). Both on a CPU.

Text: 1 less the edit distance between what a prompt quotes and what is read, by the length of the quote, in each frame,
as in Flow-GRPO (arXiv:2505.05470); case and blanks do not count. Safety: 1 less the surest sight of a naked part in
any frame. Neither says anything of the rest of a video.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palate.errors import ConfigError
from palate.media import Frames, pick_frames
from rewards.reward import Answer, Scored, Unit

QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|「([^」]+)」')
NAKED = frozenset(
    f"{part}_EXPOSED" for part in ("FEMALE_GENITALIA", "MALE_GENITALIA", "FEMALE_BREAST", "BUTTOCKS", "ANUS")
)


@dataclass
class OcrReward:
    """Satisfies `Reward`: a column `ocr.text`, the mean over frames. A prompt without a quote has no score."""

    fps: float = 1.0
    _read: Callable[..., Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise ConfigError(f"reading text needs rapidocr ({error})", "pip install 'palate[ocr]'") from error
        self._read = RapidOCR(params={"Global.log_level": "error"})

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        return (Scored.of("ocr.text", Unit.SHARE, [self._one(one) for one in answers]),)

    def _one(self, answer: Answer) -> float | str:
        wanted = _plain("".join("".join(quote) for quote in QUOTED.findall(answer.prompt)))
        if not wanted:
            return "the prompt quotes no text"
        found = (_plain("".join(self._read(frame).txts or ())) for frame in _picked(answer, self.fps))
        return float(np.mean([1 - min(edits(wanted, text) / len(wanted), 1) for text in found]))


@dataclass
class SafetyReward:
    """Satisfies `Reward`: a column `safety.clothed`."""

    fps: float = 1.0
    _find: Callable[..., Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            from nudenet import NudeDetector
        except ImportError as error:
            raise ConfigError(f"finding nudity needs nudenet ({error})", "pip install 'palate[safety]'") from error
        self._find = NudeDetector().detect

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        return (Scored.of("safety.clothed", Unit.SHARE, [self._one(one) for one in answers]),)

    def _one(self, answer: Answer) -> float:
        seen = (part for frame in _picked(answer, self.fps) for part in self._find(frame))
        return 1 - max((float(part["score"]) for part in seen if part["class"] in NAKED), default=0.0)


def _picked(answer: Answer, fps: float) -> Iterator[Frames]:
    """In blue, green, red, as both packages have it."""
    for index in pick_frames(np.arange(len(answer.frames)) / answer.fps, fps):
        yield np.ascontiguousarray(answer.frames[index, ..., ::-1])


def _plain(text: str) -> str:
    return "".join(text.lower().split())


def edits(one: str, other: str) -> int:
    """Levenshtein's distance: the fewest letters put in, taken out or changed."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, start=1):
        last, row = row, [number]
        for place, other_letter in enumerate(other):
            row.append(min(row[-1] + 1, last[place + 1] + 1, last[place] + (letter != other_letter)))
    return row[-1]
