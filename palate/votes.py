"""The current verdicts of people as columns, ready to be counted.

Text repeats, so a column holds each name once and a number for each entry: a million verdicts of a few systems, people
and prompts are as many small integers.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Labels:
    """A column (n,) of text: `names` (k,), sorted, and `codes` (n,) into them. A selection keeps all names.

    It compares and selects as an array of text would. `hashes` (k, 32) are the SHA-256 of the names, where whoever made
    the column had them ready.
    """

    names: NDArray[np.object_]
    codes: Codes
    hashes: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: NDArray[np.bool_ | np.intp]) -> "Labels":
        return Labels(self.names, self.codes[rows], self.hashes)

    def __eq__(self, other: object) -> NDArray[np.bool_]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Where the entry is `other`: one name, or that of a column with the same names."""
        if isinstance(other, Labels):
            assert other.names is self.names, "columns without common names"
            return self.codes == other.codes
        return self.among([other])

    def __ne__(self, other: object) -> NDArray[np.bool_]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ~(self == other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def among(self, names: Collection[object]) -> NDArray[np.bool_]:
        """Where the entry is one of `names`."""
        chosen = set(names)
        return np.array([name in chosen for name in self.names.tolist()], bool)[self.codes]

    def at(self, row: int) -> str:
        return str(self.names[self.codes[row]])

    def present(self) -> list[str]:
        """The names that occur, sorted."""
        return self.names[np.unique(self.codes)].tolist()

    def tolist(self) -> list[str]:
        return self.names[self.codes].tolist()


class Coding:
    """Names are given numbers as they come; `labels` sorts them at the end."""

    def __init__(self) -> None:
        self._place: defaultdict[str, int] = defaultdict()
        self._place.default_factory = self._place.__len__

    def codes(self, names: Collection[str]) -> Codes:
        return np.fromiter(map(self._place.__getitem__, names), np.int32, len(names))

    def of(self, column: Labels) -> Codes:
        """The numbers (n,) of a column of names."""
        return self.codes(column.names.tolist())[column.codes]

    def __len__(self) -> int:
        return len(self._place)

    @property
    def names(self) -> list[str]:
        """In the order of their numbers."""
        return list(self._place)

    def labels(self, *columns: Codes) -> list[Labels]:
        """Columns of these numbers, with their names in common."""
        names, rank = alphabetical(np.array(list(self._place), object))
        return [Labels(names, rank[column]) for column in columns]


def alphabetical(names: NDArray[np.object_]) -> tuple[NDArray[np.object_], Codes]:
    """The names (k,) sorted, and the place (k,) that each of them has then."""
    order = np.argsort(names, kind="stable")
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    return names[order], rank


@dataclass(frozen=True)
class Votes:
    """One entry a verdict; all columns are (n,).

    Attributes:
        judgement: record id; the same for the axes of one judgement.
        comparison: record id.
        case: record id.
        annotator: who judged.
        axis: what was judged.
        candidate, baseline: systems, whose names they have in common.
        verdict: a `Verdict`'s value, from the candidate's side.
        candidate_side: "left", "right", or "" where an imported vote does not say.
        role: "normal", "gold" or "repeat".
        simulated: bool.
        study: name.
    """

    judgement: Labels
    comparison: Labels
    case: Labels
    annotator: Labels
    axis: Labels
    candidate: Labels
    baseline: Labels
    verdict: Labels
    candidate_side: Labels
    role: Labels
    simulated: NDArray[np.bool_]
    study: Labels

    def __len__(self) -> int:
        return len(self.simulated)

    def select(self, rows: NDArray[np.bool_ | np.intp]) -> "Votes":
        """The entries where a mask (n,) is true, or at these indices."""
        if rows.dtype == bool and rows.all():
            return self
        return Votes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})
