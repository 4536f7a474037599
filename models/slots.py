"""Slots: tokens that stand for a prompt's handles, first mentioned first, in a model too small to copy names.

    @Mara walks in @Image_1  ->  @1 walks in @2

A small model guesses the letters of a name that it has rarely seen; of a slot there is nothing to guess. No handle
begins with a figure, so no prompt holds a slot, and one that a reply holds beyond the prompt's handles is no handle.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palate.prompt import Handle

SLOTS = tuple(f"@{number}" for number in range(1, 10))
_HANDLE = re.compile(r"@@|@[A-Za-z][A-Za-z0-9_]*")  # @@ is the sign itself
_SLOT = re.compile(r"@@|@[1-9](?![0-9])")


@dataclass(frozen=True)
class Slots:
    """The slots that a model has as tokens; without any, texts stay as they are."""

    signs: Sequence[str] = ()

    @classmethod
    def of(cls, tokenizer: Any) -> "Slots":
        known = tokenizer.get_added_vocab()
        return cls([sign for sign in SLOTS if sign in known])

    def hide(self, text: str, handles: Sequence[Handle | str]) -> str:
        """The text as the model is told it. Handles beyond the last slot keep their names."""
        sign = dict(zip(map(str, handles), self.signs))
        return _HANDLE.sub(lambda found: sign.get(found[0], found[0]), text)

    def show(self, text: str, handles: Sequence[Handle | str]) -> str:
        """What the model said, with the names of the handles. A slot that stands for none stays."""
        name = dict(zip(self.signs, map(str, handles)))
        return _SLOT.sub(lambda found: name.get(found[0], found[0]), text)
