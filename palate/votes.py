"""The current verdicts of people as columns, ready to be counted."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Votes:
    """One entry a verdict; all columns are (n,). Text columns are object arrays of str.

    Attributes:
        judgement: record id; the same for the axes of one judgement.
        comparison: record id.
        case: record id.
        annotator: who judged.
        axis: what was judged.
        candidate: system.
        baseline: system.
        verdict: a `Verdict`'s value, from the candidate's side.
        candidate_side: "left", "right", or "" where an imported vote does not say.
        role: "normal", "gold" or "repeat".
        simulated: bool.
        study: name.
    """

    judgement: NDArray[np.object_]
    comparison: NDArray[np.object_]
    case: NDArray[np.object_]
    annotator: NDArray[np.object_]
    axis: NDArray[np.object_]
    candidate: NDArray[np.object_]
    baseline: NDArray[np.object_]
    verdict: NDArray[np.object_]
    candidate_side: NDArray[np.object_]
    role: NDArray[np.object_]
    simulated: NDArray[np.bool_]
    study: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.judgement)

    def select(self, mask: NDArray[np.bool_]) -> "Votes":
        """The entries where `mask`, (n,), is true."""
        return Votes(**{field.name: getattr(self, field.name)[mask] for field in fields(self)})
