"""Good / same / bad of each pair of systems: what a set of votes says of which is better.

People's and simulated votes are never counted together, and gold and repeated comparisons, which are there to check
the annotators, are not counted. Votes may come a part at a time, every part with all votes of its cases; what is kept
of them does not grow with their number (`palate.stats.tally`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palate.digest import Digests
from palate.errors import DataError
from palate.records import UNKNOWN_ANNOTATOR, Case, Estimate, Verdict
from palate.stats import sequential, wins
from palate.stats.tally import Counts, Groups, Tally
from palate.stats.wins import Form
from palate.votes import Coding, Labels, Votes

Aggregation = Literal["pooled", "majority", "weighted"]
Slices = Mapping[str, tuple[str, ...]]  # case id -> the slices it is in
_OUTCOME = {Verdict.GOOD: wins.GOOD, Verdict.SAME: wins.SAME, Verdict.BOTH_BAD: wins.SAME, Verdict.BAD: wins.BAD}


@dataclass(frozen=True)
class Basis:
    """The votes behind a number: how many of what, and the hash that tells which they are."""

    axis: str
    simulated: bool
    votes: int
    digest: str
    prompts: int
    people: int | None  # None: the source does not say who voted


@dataclass(frozen=True)
class Contest:
    """Two systems on one axis, in one slice of the cases ("" for all): counts, the four forms, and whether they differ.

    `good`, `same` and `bad` count verdicts or majorities, as `aggregation` says; `both_bad` counts verdicts that are
    among the `same`. `anytime` is the net with an interval that holds at every look; of pooled verdicts only. `p` is
    two-sided for net = 0; `p_holm` is corrected over the axes of this pair and slice.
    """

    basis: Basis
    candidate: str
    baseline: str
    slice: str
    aggregation: Aggregation
    good: int
    same: int
    bad: int
    both_bad: int
    forms: Mapping[Form, Estimate]
    anytime: Estimate | None
    p: float | None
    p_holm: float | None


def contests(
    votes: Votes,
    aggregation: Aggregation = "pooled",
    candidate: str | None = None,
    baseline: str | None = None,
    slices: Slices | None = None,
    weights: Mapping[str, float] | None = None,
) -> list[Contest]:
    """The `Contests` of votes that are in memory. Raises DataError where none is left."""
    counted = Contests(aggregation, candidate, baseline, slices, weights)
    counted.add(votes)
    return counted.found()


class Contests:
    """Every pair of systems that met, on every axis, people's and simulated votes apart.

    A pair shown both ways round is one contest, seen from `candidate` or against `baseline` where given, else from the
    side that stood as candidate more often.

    Args:
        slices: None makes one slice of all.
        weights: of weighted verdicts: annotator -> what a verdict of theirs counts, 1 for whoever is not in it. One
            of 0 counts nothing, but stays among those that the number rests on; a contest of such alone is left out.
    """

    def __init__(
        self,
        aggregation: Aggregation = "pooled",
        candidate: str | None = None,
        baseline: str | None = None,
        slices: Slices | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._aggregation: Aggregation = aggregation
        self._candidate, self._baseline = candidate, baseline
        names = {name for found in (slices or {}).values() for name in found}
        cases = {name: {case for case, found in (slices or {}).items() if name in found} for name in names}
        self._slices = None if slices is None else dict(sorted(cases.items()))
        self._words, self._groups, self._orders = Words(), Groups(), Groups()
        self._weights = weights or {}
        self._pooled, self._aggregated, self._digests = Tally(), Tally(), Digests()
        self._both_bad, self._shown = np.zeros(0, int), np.zeros(0, int)  # of groups, of orders
        self.aside = 0  # votes that were not counted, see `compares`

    def add(self, votes: Votes) -> None:
        """A part of the votes, with every vote of each of its cases."""
        ordinary = votes.select(compares(votes))
        self.aside += len(votes) - len(ordinary)
        votes = ordinary
        for asked in filter(None, (self._candidate, self._baseline)):
            votes = votes.select((votes.candidate == asked) | (votes.baseline == asked))
        if not len(votes):
            return
        order = self._orders.of(*(self._words.system.of(one) for one in (votes.candidate, votes.baseline)))
        self._shown = _added(self._shown, order)
        votes, slice = self._sliced(votes)
        if not len(votes):
            return
        said = self._words.read(votes)
        first, second = np.minimum(said.candidate, said.baseline), np.maximum(said.candidate, said.baseline)
        group = self._groups.of(slice, votes.simulated, first, second, said.axis)
        outcome = np.where(said.candidate == first, said.outcome, -said.outcome)
        self._pooled.add(group, outcome, said.case, said.annotator)
        if self._aggregation == "majority":
            unit = Groups().of(group, votes.comparison.codes)
            decided, one = wins.majorities(outcome, unit)
            self._aggregated.add(group[one], decided, said.case[one])
        elif self._aggregation == "weighted":
            weight = np.array([self._weights.get(name, 1.0) for name in votes.annotator.names])[votes.annotator.codes]
            at = weight > 0
            self._aggregated.add(group[at], outcome[at], said.case[at], said.annotator[at], weight[at])
        self._both_bad = _added(self._both_bad, group, votes.verdict == Verdict.BOTH_BAD)
        self._digests.add(group, votes.judgement)

    def found(self) -> list[Contest]:
        """The contests of all parts, by slice, whose votes they are, systems and axis.

        Raises:
            DataError: no vote is left.
        """
        if not self._groups.number:
            raise DataError("no votes in this selection", "import votes, or widen the selection")
        found: list[Contest] = []
        for _, axes in groupby(self._ordered(), key=lambda one: one[:4]):
            pair = [self._contest(*one) for one in axes]
            tested = {one.basis.axis: one.p for one in pair if one.p is not None}
            corrected = dict(zip(tested, wins.holm(list(tested.values())).tolist()))
            found += [replace(one, p_holm=corrected.get(one.basis.axis)) for one in pair]
        return found

    def counts(self) -> Iterator[Counts]:
        """The pooled verdicts of each contest."""
        for *_, group, turned in self._ordered():
            yield _seen(self._pooled.counts(group), turned)

    def _ordered(self) -> list[tuple[str, bool, str, str, str, int, bool]]:
        """Slice, simulated, candidate, baseline, axis of each group, its number, and whether its sides are turned."""
        systems, axes, slices = self._words.system.names, self._words.axis.names, list(self._slices or [""])
        shown = {order: int(self._shown[number]) for order, number in self._orders.number.items()}
        found: list[tuple[str, bool, str, str, str, int, bool]] = []
        for (slice, simulated, one, other, axis), group in self._groups.number.items():
            if self._aggregation == "weighted" and not self._aggregated.holds(group):
                continue
            ours, theirs = systems[one], systems[other]
            if self._candidate or self._baseline:
                turned = ours != self._candidate if self._candidate else theirs != self._baseline
            else:
                ahead = shown.get((one, other), 0) - shown.get((other, one), 0)
                turned = ahead < 0 or (ahead == 0 and theirs < ours)
            pair = (theirs, ours) if turned else (ours, theirs)
            found.append((slices[slice], bool(simulated), *pair, axes[axis], group, turned))
        return sorted(found)

    def _contest(
        self, slice: str, simulated: bool, candidate: str, baseline: str, axis: str, group: int, turned: bool
    ) -> Contest:
        votes = counts = _seen(self._pooled.counts(group), turned)
        if self._aggregation != "pooled":
            absent = "aggregated" if self._aggregation == "majority" else "unknown"
            counts = _seen(self._aggregated.counts(group, self._aggregation, absent), turned)
        shown = counts if self._aggregation == "majority" else votes
        good, same, bad = (int(total) for total in shown.totals)
        return Contest(
            basis=basis(axis, simulated, votes, self._digests.digest([group])),
            candidate=candidate,
            baseline=baseline,
            slice=slice,
            aggregation=self._aggregation,
            good=good,
            same=same,
            bad=bad,
            both_bad=int(self._both_bad[group]),
            forms={form: wins.analytic(counts, form) for form in Form},
            anytime=sequential.anytime(counts) if self._aggregation == "pooled" else None,
            p=wins.net_p_value(counts),
            p_holm=None,
        )

    def _sliced(self, votes: Votes) -> tuple[Votes, NDArray[np.intp]]:
        """The votes of each slice one after the other, and the number of the slice (n,)."""
        if self._slices is None:
            return votes, np.zeros(len(votes), np.intp)
        rows = [np.flatnonzero(votes.case.among(cases)) for cases in self._slices.values()]
        return votes.select(np.concatenate(rows)), np.repeat(np.arange(len(rows)), [len(one) for one in rows])


def _seen(counts: Counts, turned: bool) -> Counts:
    return counts.swapped if turned else counts


def _added(
    totals: NDArray[np.int_], group: NDArray[np.intp], which: NDArray[np.bool_] | None = None
) -> NDArray[np.int_]:
    """Counts of groups and of `which` rows more, for all groups there are now."""
    counts = np.bincount(group, which, max(len(totals), int(group.max(initial=-1)) + 1)).astype(int)
    counts[: len(totals)] += totals
    return counts


@dataclass(frozen=True)
class Said:
    """A part of the votes as whole numbers (n,). The case's hold in the part; an unknown annotator is -1."""

    axis: NDArray[np.integer]
    case: NDArray[np.integer]
    candidate: NDArray[np.integer]
    baseline: NDArray[np.integer]
    annotator: NDArray[np.integer]
    outcome: NDArray[np.int_]


class Words:
    """The names in the votes so far, and their numbers."""

    def __init__(self) -> None:
        self.axis, self.system, self.annotator = Coding(), Coding(), Coding()

    def read(self, votes: Votes) -> Said:
        annotator = self.annotator.of(votes.annotator)
        return Said(
            self.axis.of(votes.axis),
            votes.case.codes,
            self.system.of(votes.candidate),
            self.system.of(votes.baseline),
            np.where(votes.annotator == UNKNOWN_ANNOTATOR, -1, annotator),
            outcomes(votes),
        )


def basis(axis: str, simulated: bool, counts: Counts, digest: str) -> Basis:
    """What stands behind pooled verdicts that have been counted."""
    return Basis(axis, simulated, counts.n, digest, counts.sampling.n_prompts, counts.sampling.n_annotators)


def slices(cases: Iterable[Case], tag: str) -> dict[str, tuple[str, ...]]:
    """Case id -> its values of `tag`, which are separated by semicolons; cases without the tag are left out.

    Raises:
        DataError: no case has the tag.
    """
    cases = list(cases)
    found = {one.id: tuple(one.tags[tag].split("; ")) for one in cases if tag in one.tags}
    if not found:
        known = ", ".join(sorted({tag for one in cases for tag in one.tags})) or "none"
        raise DataError(f"no case has the tag {tag!r}", f"the tags in this store are: {known}")
    return found


def compares(votes: Votes) -> NDArray[np.bool_]:
    """The votes that compare systems: gold and repeats examine people, a knockout two samples of one system."""
    return (votes.role == "normal") & (votes.candidate != votes.baseline)


def outcomes(votes: Votes) -> NDArray[np.int_]:
    """Verdicts as good 1, same 0, bad -1: both-bad counts as same."""
    return np.array([_OUTCOME[Verdict(kind)] for kind in votes.verdict.names], dtype=int)[votes.verdict.codes]


def groups(*columns: Labels | NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
    """The row numbers of each combination of values, combinations in sorted order."""
    if not len(columns[0]):
        return
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        size, codes = (len(column.names), column.codes) if isinstance(column, Labels) else (2, column)
        key = key * size + codes
    order = np.argsort(key, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(key[order])) + 1)
