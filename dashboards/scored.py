"""Scores of the record set against systems, and against what people said of the same pairs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dashboards.choose import Choice
from dashboards.ledger import Mask, Snapshot
from dashboards.reader import Scores
from palate.records import Estimate
from palate.report import mean_over_cases, means_over_cases


@dataclass(frozen=True)
class Pairs:
    """Comparisons (n,) whose samples both have a score.

    Attributes:
        label: 1, 0, -1: the sign of the verdicts' sum, from the candidate's side.
        margin: the candidate's score less the baseline's; nan where one has none.
        case: codes.
    """

    label: NDArray[np.int_]
    margin: NDArray[np.float64]
    case: NDArray[np.integer]


def strict_first(scorers: Iterable[str]) -> list[str]:
    """Those that are to be trusted most before the others."""
    return sorted(scorers, key=lambda one: not one.endswith("strict"))


def of_samples(scores: Scores, samples: int) -> NDArray[np.float64]:
    """(samples,) the score of each; nan where it has none or it failed."""
    column = np.full(samples, np.nan)
    column[scores.sample] = scores.value
    return column


def by_system(snapshot: Snapshot, values: NDArray[np.float64], cases: Sequence[str]) -> dict[str, Estimate]:
    """System -> mean score over these cases, in order of the systems' codes. Without a score a system is left out."""
    asked = np.isin(snapshot.words["case"], np.array(cases, object))
    inside = np.flatnonzero(asked[snapshot.sample["case"]])
    missing = np.isnan(values[inside])
    system, names = snapshot.sample["system"][inside], snapshot.words["system"]
    lost = np.bincount(system[missing], minlength=len(names))
    notes = {code: f"{lost[code]} samples have no score" for code in np.flatnonzero(lost).tolist()}
    known = inside[~missing]
    found = means_over_cases(values[known], snapshot.sample["case"][known], system[~missing], notes)
    return {str(names[code]): one for code, one in found.items()}


def difference(snapshot: Snapshot, values: NDArray[np.float64], system: str, baseline: str) -> Estimate | None:
    """How much higher a system scores than the baseline on the cases that both have scores for; None without any."""
    means: list[NDArray[np.float64]] = []
    for name in (system, baseline):
        rows = (snapshot.sample["system"] == snapshot.code("system", name)) & ~np.isnan(values)
        case, size = snapshot.sample["case"][rows], len(snapshot.words["case"])
        with np.errstate(invalid="ignore"):
            means.append(np.bincount(case, values[rows], size) / np.bincount(case, minlength=size))
    paired = means[0] - means[1]
    both = np.flatnonzero(~np.isnan(paired))
    return mean_over_cases(paired[both].tolist(), both.tolist()) if len(both) else None


def pairs(choice: Choice, kept: Mask, values: NDArray[np.float64]) -> Pairs:
    """The comparisons of these verdicts, each with what people said of it together."""
    snapshot = choice.snapshot
    at = snapshot.comparison_of[kept]
    sums = np.bincount(at, snapshot.outcome[kept], len(snapshot.comparison["study"]))
    voted = np.unique(at)
    candidate, baseline = snapshot.comparison["candidate"][voted], snapshot.comparison["baseline"][voted]
    return Pairs(
        np.sign(sums[voted]).astype(int), values[candidate] - values[baseline], snapshot.sample["case"][candidate]
    )
