"""What a rewrite of a wish is worth: the terms of Kling-Omni's prompt enhancer, in a world where each can be measured.

Each term is a number in 0..1 of a wish and a rewrite, and none falls when a rewrite gets better in what it measures
alone. An answer without a rewrite (None) says nothing, so nothing is kept, told or drawn: by definition 0.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
from pydantic import Field, model_validator
from scipy import sparse

from models.conditions import understood
from models.generator import Generator, SamplerSettings
from palate import shapes
from palate.config import Settings
from palate.errors import DataError, PromptError
from palate.facts import FACTS, Fact, possible, stated
from palate.prompt import parse
from palate.wishes import FAMILIES, Wish, without_handles


class PromptWeights(Settings):
    """How much each term counts in the reward, which is their weighted sum."""

    factual: float = Field(default=1.0, ge=0)
    richness: float = Field(default=0.25, ge=0)
    plausibility: float = Field(default=0.25, ge=0)
    similarity: float = Field(default=0.25, ge=0)
    video: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _asks_for_something(self) -> "PromptWeights":
        if not any(self.model_dump().values()):
            raise ValueError("every weight is 0, so nothing is rewarded")
        return self


def factual(wish: Wish, rewrite: str) -> float:
    """The share of what was asked that the rewrite says, without a second value beside it; handles are one thing."""
    said = stated(without_handles(rewrite))
    kept = [said.get(fact) == (value,) for fact, value in wish.facts.items()]
    try:
        given = {str(handle) for handle in parse(rewrite).handles}
    except PromptError:
        given = None
    if wish.handles or given != set():
        kept.append(given == set(wish.handles))
    return float(np.mean(kept))


def richness(wish: Wish, rewrite: str) -> float:
    """The share of the five facts that the rewrite says anything about, asked or not."""
    return len(stated(without_handles(rewrite))) / len(FACTS)


def plausibility(wish: Wish, rewrite: str) -> float:
    """The mean of four: words of this world, one value a fact, a movement that can be, a sentence of its grammar."""
    caption = without_handles(rewrite)
    words, said = re.findall(r"\w+", caption.lower()), stated(caption)
    if not words or not said:
        return 0.0
    one_each: dict[Fact, str] = {fact: values[0] for fact, values in said.items()}
    try:
        grammatical = bool(shapes.scene_of(caption))
    except DataError:
        grammatical = False
    known = sum(word in shapes.WORDS for word in words) / len(words)
    unambiguous = sum(len(values) == 1 for values in said.values()) / len(said)
    return (known + unambiguous + possible(one_each) + grammatical) / 4


class Similarity:
    """The cosine of a rewrite's words and pairs of words with those of the nearest good prompt; 1 for a good prompt."""

    def __init__(self, good: Sequence[str]) -> None:
        grams = [_grams(text) for text in good]
        self._place = {gram: at for at, gram in enumerate(sorted(set().union(*grams)))}
        ends = np.cumsum([0, *map(len, grams)])
        places = [self._place[gram] for each in grams for gram in each]
        each = np.repeat([1 / np.sqrt(len(one)) for one in grams], np.diff(ends))
        self._good = sparse.csr_array((each, places, ends), (len(grams), len(self._place)))

    def __call__(self, wish: Wish, rewrite: str) -> float:
        grams = _grams(without_handles(rewrite))
        own = np.zeros(len(self._place))
        own[[self._place[gram] for gram in grams if gram in self._place]] = 1 / np.sqrt(max(len(grams), 1))
        return min(float((self._good @ own).max()), 1.0)


def _grams(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {*words, *(f"{one} {two}" for one, two in pairwise(words))}


def good_prompts(seed: int = 0, draws: int = 4_000) -> list[str]:
    """Captions that the generator was trained on: nearly all of the train split that five facts can say."""
    rng = np.random.default_rng(seed)
    return sorted({str(shapes.draw_scene(rng, "train", FAMILIES)) for _ in range(draws)})


class Video:
    """The share of what was asked that the verifier sees in the video that the generator draws of a rewrite.

    Every answer to a request is drawn from that request's own noise, so equal rewrites are worth the same; and are
    drawn once.
    """

    def __init__(self, generator: Generator, sampler: SamplerSettings) -> None:
        self.generator, self.sampler = generator, sampler

    def __call__(self, wishes: Sequence[Wish], rewrites: Sequence[str]) -> list[float]:
        asked = [(wish, understood(without_handles(rewrite))) for wish, rewrite in zip(wishes, rewrites)]
        due = list(dict.fromkeys(asked))
        if not due:
            return []
        seeds = [crc32(wish.text.encode()) for wish, _ in due]
        clips = self.generator.clips([caption for _, caption in due], seeds, self.sampler)
        worth = {one: float(np.mean(list(one[0].granted(clip).values()))) for one, clip in zip(due, clips)}
        return [worth[one] for one in asked]
