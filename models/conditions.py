"""Captions as numbers: one meaningful word, one token; padding is 0, and all padding means "no caption"."""

import re
from collections.abc import Sequence

import torch

from models.dit import Words
from palate import shapes
from palate.errors import DataError

FILLER = frozenset(("a", "that", "on", "background", "stays", "stay", "moves", "move"))  # said, but never in doubt
LONGEST = 12  # tokens; the longest caption of the shapes world has 9
MEANINGFUL = tuple(word for word in shapes.WORDS if word not in FILLER)
VOCABULARY = 1 + len(MEANINGFUL)
_INDEX = {word: index for index, word in enumerate(MEANINGFUL, start=1)}


def tokens(captions: Sequence[str]) -> Words:
    """(captions, LONGEST) word numbers. Raises DataError for a word the model has never seen, or too many words."""
    return torch.tensor([_numbers(caption) for caption in captions])


def understood(text: str) -> str:
    """The words of any text that the model knows, as many as it takes: what is left of a prompt that is no caption."""
    return " ".join([word for word in _words(text) if word in _INDEX][:LONGEST])


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W\d_]+", text.lower()) if word not in FILLER]


def _numbers(caption: str) -> list[int]:
    words = _words(caption)
    unknown = [word for word in words if word not in _INDEX]
    if unknown:
        raise DataError(f"the word {unknown[0]!r} in {caption!r}", "this generator knows only the words of its world")
    if len(words) > LONGEST:
        raise DataError(f"a caption of {len(words)} meaningful words", f"shorten it to {LONGEST}")
    return [_INDEX[word] for word in words] + [0] * (LONGEST - len(words))
