"""How well automatic metrics agree with people: every scorer's scores against the verdicts on the same samples."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from palate.digest import digest
from palate.errors import DataError
from palate.gsb import Basis, groups, outcomes
from palate.records import UNKNOWN_ANNOTATOR, Comparison, Estimate, Figure, Scalar, Score
from palate.report import vote_figure
from palate.report_text import Notes, sizes_of, source_of, table
from palate.stats import metric
from palate.store import Store
from palate.votes import Votes

NAMES = {
    "accuracy": "accuracy without ties",
    "tied_accuracy": "accuracy with ties",
    "kendall": "Kendall tau-b",
    "spearman": "Spearman",
}


@dataclass(frozen=True)
class Match:
    """A scorer against the verdicts on an axis; `estimates` by the keys of `NAMES`, and why one is missing."""

    basis: Basis
    scorer: str
    estimates: Mapping[str, Estimate]
    missing: Mapping[str, str]


@dataclass(frozen=True)
class _Side:
    """One sample of each verdict: its record's id and the scorer's number, nan where there is none."""

    sample: NDArray[np.object_]
    score: NDArray[np.float64]


def matches(store: Store, votes: Votes, scorers: Sequence[str] = ()) -> list[Match]:
    """Every scorer (or those named) on every axis, people's and simulated votes apart.

    A verdict is a pair: people's label is the verdict, the metric's margin its score of the candidate less that of the
    baseline. People's score of a sample is its mean verdict, 1 for better, 0 for same, -1 for worse.

    Raises:
        DataError: no votes, or no scores.
    """
    votes = votes.select(votes.role == "normal")
    if not len(votes):
        raise DataError("no votes in this selection", "import votes, or widen the selection")
    named = {"scorer": list(scorers)} if scorers else {}
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in store.select(Score, **named):
        if one.value is not None:
            values[one.scorer][one.sample].append(one.value)
    if not values:
        raise DataError("no scores in this selection", "score the samples first, or check --scorer")
    shown = {one.id: one for one in store.select(Comparison, id=votes.comparison.present())}
    found: list[Match] = []
    for rows in groups(votes.axis, votes.simulated):
        part = votes.select(rows)
        pairs = [shown[id] for id in part.comparison.tolist()]
        for scorer, by_sample in sorted(values.items()):
            means = {sample: fmean(scores) for sample, scores in by_sample.items()}
            sides = [_side([one.candidate for one in pairs], means), _side([one.baseline for one in pairs], means)]
            if not np.isnan(sides[0].score - sides[1].score).all():
                found.append(_match(part, scorer, *sides))
    if not found:
        raise DataError("no two samples that were compared both have a score", "score the samples that were shown")
    return found


def metric_figures(matches: Sequence[Match], selection: Mapping[str, Scalar]) -> list[Figure]:
    return [
        vote_figure("metric", name, estimate, one.basis, {**selection, "scorer": one.scorer})
        for one in matches
        for name, estimate in one.estimates.items()
    ]


def metric_text(matches: Sequence[Match]) -> str:
    """A table, and what its columns mean."""
    notes = Notes()
    rows = [
        [
            source_of(one.basis),
            one.basis.axis,
            one.scorer,
            *(notes.show(one.estimates[name]) if name in one.estimates else "–" for name in NAMES),
            *sizes_of(one.basis),
        ]
        for one in matches
    ]
    gaps = {f"{NAMES[name]}: {reason}" for one in matches for name, reason in one.missing.items()}
    foot = [
        "Intervals are 95%, over prompts. Every verdict is a pair; pairs without a score are left out and counted.",
        "Accuracy without ties: of the pairs that people order, those the metric orders alike; its ties are wrong.",
        "Accuracy with ties: of all pairs, good, same or bad alike; a difference up to a threshold is `same`,",
        "and the threshold is chosen on other prompts than those it is judged on.",
        "Kendall, Spearman: over samples, a metric's score against the mean verdict from the sample's side.",
        *sorted(f"– {gap}." for gap in gaps),
    ]
    head = ["from", "axis", "scorer", *NAMES.values(), "votes", "prompts", "people"]
    return f"{table(head, rows)}\n\n" + "\n".join([*foot, *notes.lines()])


def _match(votes: Votes, scorer: str, ours: _Side, theirs: _Side) -> Match:
    basis = _basis(votes)
    label, prompt = outcomes(votes), votes.case.codes
    sample = np.concatenate([ours.sample, theirs.sample])
    _, first, of = np.unique(sample.astype(str), return_index=True, return_inverse=True)
    people = np.bincount(of, np.concatenate([label, -label])) / np.bincount(of)
    columns = np.concatenate([ours.score, theirs.score])[first], people, np.tile(prompt, 2)[first]
    pairs = label, ours.score - theirs.score, prompt
    folds = min(5, basis.prompts)
    asked: dict[str, Callable[[], Estimate]] = {
        "accuracy": lambda: metric.accuracy(*pairs),
        "tied_accuracy": lambda: metric.tied_accuracy(*pairs, folds=folds).accuracy,
        "kendall": lambda: metric.kendall(*columns),
        "spearman": lambda: metric.spearman(*columns),
    }
    estimates: dict[str, Estimate] = {}
    missing: dict[str, str] = {}
    for name, ask in asked.items():
        try:
            estimates[name] = ask()
        except DataError as error:
            missing[name] = error.problem
    return Match(basis, scorer, estimates, missing)


def _basis(votes: Votes) -> Basis:
    people = None if (votes.annotator == UNKNOWN_ANNOTATOR).any() else len(votes.annotator.present())
    axis, simulated, prompts = votes.axis.at(0), bool(votes.simulated[0]), len(votes.case.present())
    return Basis(axis, simulated, len(votes), digest(votes.judgement.tolist()), prompts, people)


def _side(samples: list[str], means: Mapping[str, float]) -> _Side:
    return _Side(np.array(samples, object), np.array([means.get(one, np.nan) for one in samples]))
