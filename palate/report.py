"""Numbers fit to be shown: each with its interval, and with the rows it was computed from."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palate.accords import Accord
from palate.digest import digest
from palate.errors import DataError
from palate.gsb import Basis, Contest, slices
from palate.records import Case, Estimate, Figure, Sample, Scalar, Score
from palate.standings import Standing
from palate.stats.estimate import TwoWay, codes, corrected, distinct
from palate.store import Store

Split = Literal["train", "heldout"]
Within = tuple[str, str] | None  # a tag of the cases, and one of its values


def figures(
    contests: Iterable[Contest],
    standings: Iterable[Standing],
    accords: Iterable[Accord],
    selection: Mapping[str, Scalar],
) -> list[Figure]:
    """A figure of every number of a GSB report.

    Args:
        selection: what the votes were chosen by, such as the study and the tag that slices them.
    """
    found: list[Figure] = []
    for one in contests:
        which = {
            "candidate": one.candidate,
            "baseline": one.baseline,
            "aggregation": one.aggregation,
            **({"slice": one.slice} if one.slice else {}),
        }
        found += [vote_figure("gsb", form, e, one.basis, {**selection, **which}) for form, e in one.forms.items()]
        if one.anytime:
            found.append(vote_figure("gsb", "net_anytime", one.anytime, one.basis, {**selection, **which}))
    for one in standings:
        which = {**selection, "system": one.system}
        found.append(vote_figure("rating", "elo", one.elo, one.basis, which))
        found.append(vote_figure("rating", "win_rate", one.win_rate, one.basis, which))
    effects = dict.fromkeys(effect for one in standings for effect in one.effects)
    found += [
        vote_figure("rating", "effect", one.estimate, one.basis, {**selection, "effect": one.name}) for one in effects
    ]
    for one in accords:
        for name, estimate in (("nominal", one.nominal), ("ordinal", one.ordinal), ("share", one.share)):
            found.append(vote_figure("agreement", name, estimate, one.basis, selection))
    return found


def score_figure(store: Store, scorer: str, system: str, suite: str, split: Split, within: Within = None) -> Figure:
    """The mean score of a system's samples, with a t interval over cases. Failed scores are left out and counted.

    Args:
        within: only the cases of this slice: a tag, and one of its values.

    Raises:
        DataError: there is no score to average.
    """
    scores = _scores(store, scorer, system, suite, split, within)
    values, cases = [one.value for one in scores.found], [one.case for one in scores.found]
    selection = {"scorer": scorer, "system": system, "suite": suite, "split": split, **_sliced(within)}
    return _score_figure("score.mean", mean_over_cases(values, cases, scores.note), selection, scores.found)


def score_difference(
    store: Store, scorer: str, candidate: str, baseline: str, suite: str, split: Split, within: Within = None
) -> Figure:
    """How much higher the candidate scores than the baseline on the same cases, with a paired t interval over them.

    Args:
        within: only the cases of this slice: a tag, and one of its values.

    Raises:
        DataError: the two have no scored case in common.
    """
    ours, theirs = (_scores(store, scorer, system, suite, split, within) for system in (candidate, baseline))
    means = [one.means for one in (ours, theirs)]
    both = sorted(means[0].keys() & means[1].keys())
    alone = len(means[0].keys() ^ means[1].keys())
    notes = (ours.note, theirs.note, f"{alone} cases are scored for one system only" if alone else "")
    estimate = mean_over_cases([means[0][case] - means[1][case] for case in both], both, "; ".join(filter(None, notes)))
    selection = {"scorer": scorer, "candidate": candidate, "baseline": baseline, "suite": suite, "split": split}
    selection |= _sliced(within)
    rows = [one for one in (*ours.found, *theirs.found) if one.case in both]
    return _score_figure("score.difference", estimate, selection, rows)


@dataclass(frozen=True)
class _Scored:
    """One number that a scorer gave."""

    id: str
    case: str
    value: float


@dataclass(frozen=True)
class _Scores:
    """A system's scores, and how many of its samples have none."""

    system: str
    found: list[_Scored]
    failed: int

    @property
    def note(self) -> str:
        return f"{self.failed} samples of {self.system} have no score" if self.failed else ""

    @property
    def means(self) -> dict[str, float]:
        """The mean score of each case."""
        values: dict[str, list[float]] = defaultdict(list)
        for one in self.found:
            values[one.case].append(one.value)
        return {case: fmean(scores) for case, scores in values.items()}


def _sliced(within: Within) -> dict[str, str]:
    return {"by": within[0], "slice": within[1]} if within else {}


def _scores(store: Store, scorer: str, system: str, suite: str, split: Split, within: Within) -> _Scores:
    found = list(store.select(Case, suite=suite, split=split))
    cases = {case.id for case in found}
    if within:
        cases = {case for case, names in slices(found, within[0]).items() if within[1] in names}
    sample_case = {one.id: one.case for one in store.select(Sample, system=system) if one.case in cases}
    scores = [one for one in store.select(Score, scorer=scorer) if one.sample in sample_case]
    numbers = [_Scored(one.id, sample_case[one.sample], one.value) for one in scores if one.value is not None]
    unscored = sample_case.keys() - {one.sample for one in scores if one.value is not None}
    return _Scores(system, numbers, len(unscored))


def mean_over_cases(values: Sequence[float], cases: Sequence[str] | Sequence[int], note: str = "") -> Estimate:
    """The mean of `values` (n,), with a t interval over their cases (n,).

    Raises:
        DataError: there are none.
    """
    if not values:
        raise DataError("no scores in this selection", "score the samples first, or check suite, split and system")
    return means_over_cases(np.array(values, float), codes(list(cases))[0], np.zeros(len(values), int), {0: note})[0]


def means_over_cases(
    values: NDArray[np.float64],
    cases: NDArray[np.integer],
    groups: NDArray[np.integer],
    notes: Mapping[int, str] | None = None,
) -> dict[int, Estimate]:
    """Group -> the mean of its `values`, with a t interval over their cases; columns (n,) of numbers from zero."""
    n, width = np.bincount(groups), int(cases.max(initial=0)) + 1
    mean = np.bincount(groups, values) / np.maximum(n, 1)
    cluster, of = distinct(groups.astype(np.int64) * width + cases)
    group_of = cluster.astype(np.int64) // width
    away = np.bincount(of, values - mean[groups]) / n[group_of]
    squares, sizes = np.bincount(group_of, away**2), np.bincount(group_of)
    found: dict[int, Estimate] = {}
    for group in np.flatnonzero(n).tolist():
        value, size = float(mean[group]), int(sizes[group])
        outer = corrected(np.full((1, 1), squares[group]), size)
        spread = TwoWay(outer, outer, outer, size, None)
        deviation = spread.deviation(np.ones(1))
        half = None if deviation is None else spread.quantile(0.95) * deviation
        unsure = "no interval: nothing varies between cases" if half is None else ""
        found[group] = Estimate(
            value=value,
            low=None if half is None else value - half,
            high=None if half is None else value + half,
            n=int(n[group]),
            method="mean, t over cases",
            clusters={"cases": size},
            note="; ".join(filter(None, (unsure, (notes or {}).get(group, "")))),
        )
    return found


def vote_figure(kind: str, name: str, estimate: Estimate, basis: Basis, selection: Mapping[str, Scalar]) -> Figure:
    return Figure(
        name=f"{kind}.{basis.axis}.{name}",
        estimate=estimate,
        selection={**selection, "axis": basis.axis},
        evidence="judgements",
        rows=basis.votes,
        digest=basis.digest,
        simulated=basis.simulated,
    )


def _score_figure(name: str, estimate: Estimate, selection: Mapping[str, Scalar], scores: Sequence[_Scored]) -> Figure:
    return Figure(
        name=name,
        estimate=estimate,
        selection=dict(selection),
        evidence="scores",
        rows=len(scores),
        digest=digest(one.id for one in scores),
        simulated=False,
    )
