"""What a set of votes says: the contest of each pair of systems, the standing of each system, how far people agree.

People's and simulated votes are never counted together, and gold and repeated comparisons, which are there to check
the annotators, are not counted.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palate.errors import DataError
from palate.provenance import digest
from palate.records import UNKNOWN_ANNOTATOR, Case, Estimate, Side, Verdict
from palate.stats import agreement, rating, sequential, wins
from palate.stats.estimate import distinct
from palate.stats.ties import Ties
from palate.stats.wins import Form
from palate.votes import Labels, Votes

Aggregation = Literal["pooled", "majority", "weighted"]
LEFT = "standing on the left"
_OUTCOME = {Verdict.GOOD: wins.GOOD, Verdict.SAME: wins.SAME, Verdict.BOTH_BAD: wins.SAME, Verdict.BAD: wins.BAD}


@dataclass(frozen=True)
class Basis:
    """The votes behind a number: which they are, and how many of what."""

    axis: str
    simulated: bool
    judgements: Labels
    prompts: int
    people: int | None  # None: the source does not say who voted

    @cached_property
    def digest(self) -> str:
        """The hash that the figures of these votes share."""
        return digest(self.judgements.tolist())


@dataclass(frozen=True)
class Contest:
    """Two systems on one axis, in one slice of the cases ("" for all): counts, the four forms, and whether they differ.

    `good`, `same` and `bad` count verdicts or majorities, as `aggregation` says, whatever they weigh; `both_bad` counts
    verdicts that are among the `same`. `anytime` is the net with an interval that holds at every look; of pooled
    verdicts only. `p` is two-sided for net = 0; `p_holm` is corrected over the axes of this pair and slice.
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


@dataclass(frozen=True, eq=False)  # one object an axis, which its standings share
class Effect:
    """Log-odds that something other than a system adds on an axis, such as standing on the left."""

    basis: Basis
    name: str
    estimate: Estimate


@dataclass(frozen=True)
class Standing:
    """One system among all on an axis: Elo-scaled strength, rank intervals, and G / (G + B) over all opponents.

    `rank` is right for one system with the level's probability, `rank_at_once` for all of the axis together;
    `arena_rank` is LMArena's "Rank (UB)". `effects`, of the axis, were taken out of the strengths.
    """

    basis: Basis
    system: str
    elo: Estimate
    rank: tuple[int, int]
    rank_at_once: tuple[int, int]
    arena_rank: int | None
    win_rate: Estimate
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Accord:
    """How far people agree on an axis. `comparisons` counts those with more than one vote."""

    basis: Basis
    comparisons: int
    nominal: Estimate
    ordinal: Estimate
    share: Estimate


def contests(
    votes: Votes,
    aggregation: Aggregation = "pooled",
    candidate: str | None = None,
    baseline: str | None = None,
    slices: Mapping[str, tuple[str, ...]] | None = None,
    weights: Mapping[str, float] | None = None,
) -> list[Contest]:
    """Every pair of systems that met, on every axis, people's and simulated votes apart.

    A pair shown both ways round is one contest, seen from `candidate` or against `baseline` where given, else from the
    side that stood as candidate more often.

    Args:
        slices: case id -> the slices it is in; None makes one slice of all.
        weights: of weighted verdicts: annotator -> what a verdict of theirs counts, 1 for whoever is not in it. One
            of 0 counts nothing, but stays among those that the number rests on; a contest of such alone is left out.

    Raises:
        DataError: no vote is left.
    """
    votes = _turned(_ordinary(votes), candidate, baseline)
    if not len(votes):
        raise DataError("no votes in this selection", "import votes, or widen the selection")
    found: list[Contest] = []
    for name, part in _sliced(votes, slices):
        for rows in groups(part.simulated, part.candidate, part.baseline):
            pair = part.select(rows)
            parts = [pair.select(at) for at in groups(pair.axis)]
            axes = [_contest(one, name, aggregation, weights) for one in parts if _weight(one, weights).any()]
            tested = {one.basis.axis: one.p for one in axes if one.p is not None}
            corrected = dict(zip(tested, wins.holm(list(tested.values())).tolist()))
            found += [replace(one, p_holm=corrected.get(one.basis.axis)) for one in axes]
    return found


def ballots_of_contests(votes: Votes) -> Iterator[wins.Ballots]:
    """The pooled verdicts of each pair of systems on each axis, people's and simulated apart."""
    votes = _turned(_ordinary(votes), None, None)
    for rows in groups(votes.simulated, votes.candidate, votes.baseline, votes.axis):
        part = votes.select(rows)
        yield wins.pooled(outcomes(part), part.case.codes, _people(part))


def standings(
    votes: Votes,
    ties: Ties = "davidson",
    side: bool = False,
    raters: bool = False,
    style: Mapping[str, NDArray[np.float64]] | None = None,
) -> tuple[list[Standing], list[str]]:
    """Ratings of all systems on every axis, best first; and why there are none, for the axes that have none.

    Args:
        ties: the model of ties.
        side: whether the advantage of one side of the screen is estimated, and taken out of the ratings.
        raters: the same, of each annotator apart.
        style: name -> (n,) a difference of the two samples that is taken out too, for every one of `votes`.
    """
    kept = _compares(votes)
    votes, style = votes.select(kept), {name: column[kept] for name, column in (style or {}).items()}
    found: list[Standing] = []
    missing: list[str] = []
    for rows in groups(votes.axis, votes.simulated):
        part = votes.select(rows)
        present, codes = np.unique(np.concatenate([part.candidate.codes, part.baseline.codes]), return_inverse=True)
        systems = part.candidate.names[present]
        ours, theirs = codes[: len(part)], codes[len(part) :]
        outcome, people = outcomes(part), _people(part)
        left = (part.candidate_side == Side.LEFT) * 1 - (part.candidate_side == Side.RIGHT)
        extras: dict[str, NDArray[np.float64]] = {name: column[rows] for name, column in style.items()}
        if raters:
            own = {one: (part.annotator == one) * left for one in part.annotator.present()}
            extras |= {f"{LEFT}, for {one}": column.astype(float) for one, column in own.items()}
        try:
            fitted = rating.fit(
                ours,
                theirs,
                outcome,
                part.case.codes,
                people,
                systems=systems.tolist(),
                side=left if side and not raters else None,
                covariates=extras,
                ties=ties,
            )
        except DataError as error:
            missing.append(f"{part.axis.at(0)}{' SIMULATED' if part.simulated[0] else ''}: no ratings, {error}")
            continue
        added = {**({LEFT: fitted.side} if fitted.side else {}), **fitted.covariates}
        basis = basis_of(part)
        effects = tuple(Effect(basis, name, estimate) for name, estimate in added.items())
        for code in fitted.order:
            at = (ours == code) | (theirs == code)
            own = np.where(ours == code, outcome, -outcome)[at]
            ballots = wins.pooled(own, part.case.codes[at], None if people is None else people[at])
            found.append(
                Standing(
                    basis=basis_of(part.select(at)),
                    system=str(systems[code]),
                    elo=fitted.elo[code],
                    rank=fitted.ranks[code],
                    rank_at_once=fitted.ranks_at_once[code],
                    arena_rank=fitted.arena_ranks[code],
                    win_rate=wins.analytic(ballots, Form.WIN_RATE),
                    effects=effects,
                )
            )
    return found, missing


def accords(votes: Votes) -> list[Accord]:
    """Agreement on every axis that has a comparison with two votes or more, over all pairs of systems."""
    votes, found = votes.select(votes.role == "normal"), []
    for rows in groups(votes.axis, votes.simulated):
        part = votes.select(rows)
        table = agreement.count_table(part.comparison.codes, outcomes(part) + 1, 3)
        shared = int((table.sum(1) > 1).sum())
        if shared:
            nominal, ordinal = agreement.alpha(table, "nominal"), agreement.alpha(table, "ordinal")
            found.append(Accord(basis_of(part), shared, nominal, ordinal, agreement.agreement(table)))
    return found


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


def set_aside(votes: Votes) -> int:
    """How many votes are not counted: on gold and repeated comparisons, and on two samples of one system."""
    return len(votes) - len(_ordinary(votes))


def _contest(votes: Votes, name: str, aggregation: Aggregation, weights: Mapping[str, float] | None) -> Contest:
    outcome, people = outcomes(votes), _people(votes)
    if aggregation == "majority":
        ballots = wins.majority(outcome, votes.case.codes, votes.comparison.codes)
    elif aggregation == "weighted":
        weight = _weight(votes, weights)
        at = weight > 0
        ballots = wins.weighted(outcome[at], votes.case.codes[at], None if people is None else people[at], weight[at])
    else:
        ballots = wins.pooled(outcome, votes.case.codes, people)
    given = np.array([(outcome == kind).sum() for kind in (wins.GOOD, wins.SAME, wins.BAD)])
    good, same, bad = (int(total) for total in (ballots.totals if aggregation == "majority" else given))
    return Contest(
        basis=basis_of(votes),
        candidate=votes.candidate.at(0),
        baseline=votes.baseline.at(0),
        slice=name,
        aggregation=aggregation,
        good=good,
        same=same,
        bad=bad,
        both_bad=int((votes.verdict == Verdict.BOTH_BAD).sum()),
        forms={form: wins.analytic(ballots, form) for form in Form},
        anytime=sequential.anytime(ballots) if aggregation == "pooled" else None,
        p=wins.net_p_value(ballots),
        p_holm=None,
    )


def basis_of(votes: Votes) -> Basis:
    """Of votes on one axis, of people or simulated."""
    people = _people(votes)
    return Basis(
        axis=votes.axis.at(0),
        simulated=bool(votes.simulated[0]),
        judgements=votes.judgement,
        prompts=len(np.unique(votes.case.codes)),
        people=None if people is None else len(np.unique(people)),
    )


def _ordinary(votes: Votes) -> Votes:
    """The votes that compare systems: gold and repeats examine people, a knockout two samples of one system."""
    return votes.select(_compares(votes))


def _compares(votes: Votes) -> NDArray[np.bool_]:
    return (votes.role == "normal") & (votes.candidate != votes.baseline)


def _weight(votes: Votes, weights: Mapping[str, float] | None) -> NDArray[np.float64]:
    return np.array([(weights or {}).get(name, 1.0) for name in votes.annotator.names])[votes.annotator.codes]


def _people(votes: Votes) -> NDArray[np.int32] | None:
    """The annotators, or None where the source of any vote does not say: they are unknown then, not one more person."""
    return None if (votes.annotator == UNKNOWN_ANNOTATOR).any() else votes.annotator.codes


def outcomes(votes: Votes) -> NDArray[np.int_]:
    """Verdicts as good 1, same 0, bad -1: both-bad counts as same."""
    return np.array([_OUTCOME[Verdict(kind)] for kind in votes.verdict.names], dtype=int)[votes.verdict.codes]


def _turned(votes: Votes, candidate: str | None, baseline: str | None) -> Votes:
    """Only the pairs asked for, each of them one way round."""
    for asked in filter(None, (candidate, baseline)):
        votes = votes.select((votes.candidate == asked) | (votes.baseline == asked))
    if not len(votes):
        return votes
    ours, theirs = votes.candidate.codes, votes.baseline.codes
    if candidate or baseline:
        flip = (votes.candidate != candidate) if candidate else (votes.baseline != baseline)
    else:
        _, pair = distinct(np.minimum(ours, theirs).astype(int) * len(votes.candidate.names) + np.maximum(ours, theirs))
        descending = np.bincount(pair, np.where(ours > theirs, 1, -1))[pair] > 0
        flip = (ours > theirs) != descending
    verdict = votes.verdict
    other = Labels(np.array([Verdict(kind).swapped.value for kind in verdict.names], object), verdict.codes)
    return replace(
        votes,
        candidate=Labels(votes.candidate.names, np.where(flip, theirs, ours)),
        baseline=Labels(votes.candidate.names, np.where(flip, ours, theirs)),
        verdict=_either(flip, other, verdict),
    )


def _either(first: NDArray[np.bool_], one: Labels, other: Labels) -> Labels:
    """`one` where `first`, else `other`."""
    names = np.union1d(one.names, other.names)
    places = [np.searchsorted(names, column.names).astype(np.int32)[column.codes] for column in (one, other)]
    return Labels(names, np.where(first, *places))


def _sliced(votes: Votes, slices: Mapping[str, tuple[str, ...]] | None) -> Iterator[tuple[str, Votes]]:
    if slices is None:
        yield "", votes
        return
    for name in sorted({name for names in slices.values() for name in names}):
        part = votes.select(votes.case.among([case for case, names in slices.items() if name in names]))
        if len(part):
            yield name, part


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
