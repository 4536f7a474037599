"""Whether to believe them: what each annotator's answers say about the annotator, and what follows from it.

Answers are -1, 0, 1 (bad, same, good), from the candidate's side; `side` turns them into left and right. Nothing here
removes a vote: a verdict about a person is a number between 0 and 1 that votes may be weighed with, and its reason;
`reconsidered` counts good / same / bad again with these weights.

A person's reliability comes from Dawid and Skene (palate/stats/reliability.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats

from palate.config import Settings
from palate.errors import DataError
from palate.gsb import Contest, compares, contests
from palate.records import OVERALL, UNKNOWN_ANNOTATOR, Axis, Comparison, Estimate, Judgement, Side, Verdict
from palate.stats.agreement import alpha, count_table
from palate.stats.reliability import KINDS, reliabilities
from palate.votes import Votes

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]
Advice = Literal["keep", "weigh down", "ask again", "leave out"]

_OUTCOME = {Verdict.BAD: -1, Verdict.SAME: 0, Verdict.GOOD: 1}
_SIDE = {Side.LEFT: 1, Side.RIGHT: -1, None: 0}


class Rule(Settings):
    """The recipe of `palate annotate quality`: who is weighed down, asked again or left out."""

    axis: Axis = OVERALL
    votes: int = Field(default=20, ge=1, description="with fewer votes a person is asked again and not yet judged")
    reliable: float = Field(
        default=0.4, gt=0, le=1, description="below this reliability a person weighs its share of it"
    )
    gold: float = Field(default=0.6, ge=0, le=1, description="asked again when surely below this on known answers")
    side_p: float = Field(default=0.001, gt=0, lt=1, description="weighs half when a side is favoured at this p")
    smoothing: float = Field(default=1.0, gt=0, description="votes added to each cell of a confusion matrix")

    @property
    def name(self) -> str:
        """The rule as every number that follows from it quotes it."""
        return ", ".join(f"{name}={value:g}" for name, value in self if name != "axis")


@dataclass(frozen=True)
class Answers:
    """Votes as columns of length n.

    Attributes:
        comparison: labels; votes on one comparison share theirs.
        pair: labels; a repeat with its sides swapped shares that of its original.
        annotator: who.
        outcome: -1, 0 or 1, from the candidate's side.
        side: 1 where the candidate stood on the left, -1 on the right, 0 unknown.
        gold: bool, where the true answer is known to be `good`.
        seconds: time taken, nan where unknown.
        length: seconds the longer clip of the pair plays, nan where unknown.
    """

    comparison: NDArray[np.object_]
    pair: NDArray[np.object_]
    annotator: NDArray[np.object_]
    outcome: Ints
    side: Ints
    gold: NDArray[np.bool_]
    seconds: Floats
    length: Floats


@dataclass(frozen=True)
class Annotator:
    """One row of the table. Estimates say in `note` why they are missing."""

    name: str
    votes: int
    gold: Estimate  # share of known answers given
    left: Estimate  # share of the left among the decided
    left_p: float | None  # of favouring no side
    ties: Estimate  # share of `same`
    consistency: Estimate  # share of repeats answered as the first time
    agreement: Estimate  # share of comparisons answered as most others did
    pace: float | None  # median time taken over the clip's length
    reliability: Estimate  # Dawid-Skene: 0 is guessing, 1 is always right
    weight: float
    advice: Advice
    reason: str


def answers(
    comparisons: Mapping[str, Comparison], judgements: Iterable[Judgement], lengths: Mapping[str, float], axis: Axis
) -> Answers:
    """The verdicts that stand on one axis, of annotators that are known.

    Args:
        comparisons: by id.
        lengths: sample id -> seconds it plays, where known.

    Raises:
        DataError: there are none.
    """
    rows = list(judgements)
    superseded = {one.supersedes for one in rows}
    columns = [
        (
            one.comparison,
            f"{asked.candidate} {asked.baseline}",
            one.annotator,
            _OUTCOME[one.verdicts[axis].counted],
            _SIDE[asked.candidate_side],
            asked.role == "gold",
            np.nan if one.seconds is None else one.seconds,
            max(lengths.get(sample, np.nan) for sample in (asked.candidate, asked.baseline)),
        )
        for one in rows
        if one.id not in superseded and axis in one.verdicts and one.annotator != UNKNOWN_ANNOTATOR
        for asked in [comparisons[one.comparison]]
    ]
    if not columns:
        raise DataError(f"nobody has judged {axis}", "pull some votes, or choose another study or axis")
    comparison, pair, annotator, outcome, side, gold, seconds, length = zip(*columns)
    return Answers(
        np.array(comparison, object),
        np.array(pair, object),
        np.array(annotator, object),
        np.array(outcome, int),
        np.array(side, int),
        np.array(gold, bool),
        np.array(seconds, float),
        np.array(length, float),
    )


def table(answers: Answers, rule: Rule) -> list[Annotator]:
    """What the votes say of each annotator, by name, and what the rule makes of it.

    Raises:
        DataError: there are no votes.
    """
    normal = ~answers.gold
    unit, person = (np.unique(labels, return_inverse=True)[1] for labels in (answers.pair, answers.annotator))
    names = np.unique(answers.annotator)
    trusted = reliabilities(unit[normal], person[normal], answers.outcome[normal], len(names), rule.smoothing)
    rows = []
    for code, name in enumerate(names):
        own = np.flatnonzero(person == code)
        rows.append(_judged(_measured(answers, str(name), own, own[normal[own]], unit, person, trusted[code]), rule))
    return rows


def alphas(answers: Answers) -> dict[Literal["nominal", "ordinal"], Estimate]:
    """Krippendorff's alpha of all answers but those to gold, with an interval from a bootstrap over comparisons.

    The ordinal one, to which bad against good is worse than bad against same, is the one to go by.
    """
    normal = ~answers.gold
    counts = count_table(answers.comparison[normal], answers.outcome[normal] + 1, KINDS)
    if counts.sum(1).max(initial=0) < 2:
        note = "no comparison has two votes"
        missing = Estimate(value=None, low=None, high=None, n=len(answers.outcome), method="Krippendorff", note=note)
        return {"nominal": missing, "ordinal": missing}
    return {"nominal": alpha(counts, "nominal"), "ordinal": alpha(counts, "ordinal")}


def weights(rows: Sequence[Annotator]) -> dict[str, float]:
    """Annotator -> what a vote of theirs counts; those at 0 are to be left out."""
    return {row.name: row.weight for row in rows}


def reconsidered(votes: Votes, rows: Sequence[Annotator]) -> list[tuple[Contest, Contest | None]]:
    """Good / same / bad of each pair of systems: every verdict alike, and weighed by whose it is.

    Args:
        votes: on one axis, all of people or all simulated.

    Returns:
        None for the second where nobody who judged the pair weighs anything; nothing at all where no votes compare
        two systems.
    """
    if not compares(votes).any():
        return []
    weighed = {(one.candidate, one.baseline): one for one in contests(votes, "weighted", weights=weights(rows))}
    return [(one, weighed.get((one.candidate, one.baseline))) for one in contests(votes)]


def _measured(
    answers: Answers, name: str, own: Ints, judged: Ints, unit: Ints, person: Ints, trusted: Estimate
) -> Annotator:
    outcome, sided = answers.outcome[own], answers.side[own] * answers.outcome[own]
    known, decided = answers.gold[own], sided != 0
    left, n = int((sided[decided] > 0).sum()), int(decided.sum())
    pace = answers.seconds[own] / answers.length[own]
    return Annotator(
        name=name,
        votes=len(own),
        gold=_share(outcome[known] == 1, "no known answers"),
        left=_share(sided[decided] > 0, "no side was ever preferred"),
        left_p=float(stats.binomtest(left, n).pvalue) if n else None,
        ties=_share(outcome == 0, "no votes"),
        consistency=_share(_again(answers, own), "nothing was shown twice"),
        agreement=_share(_as_most(answers, judged, unit, person), "nobody else answered the same comparisons"),
        pace=float(np.nanmedian(pace)) if np.isfinite(pace).any() else None,
        reliability=trusted,
        weight=1.0,
        advice="keep",
        reason="",
    )


def _judged(row: Annotator, rule: Rule) -> Annotator:
    """The rule, the gravest finding first."""
    found = row.reliability
    if row.votes < rule.votes:
        return replace(row, advice="ask again", reason=f"{row.votes} votes are too few to tell")
    if found.low is not None and found.high is not None and found.low <= 0 and found.high < 2 * rule.reliable:
        return replace(row, weight=0.0, advice="leave out", reason="no better than guessing")
    if found.value is None:
        return replace(row, weight=0.0, advice="leave out", reason=found.note)
    if row.gold.high is not None and row.gold.high < rule.gold:
        return replace(row, weight=0.5, advice="ask again", reason="too few known answers are right")
    if found.value < rule.reliable:
        share = max(found.value, 0.05) / rule.reliable
        return replace(row, weight=share, advice="weigh down", reason="follows the others only loosely")
    if row.left_p is not None and row.left_p < rule.side_p:
        return replace(row, weight=0.5, advice="weigh down", reason="favours a side")
    return row


def _share(hits: NDArray[np.bool_], missing: str, level: float = 0.95) -> Estimate:
    n, method = len(hits), "Wilson"
    if not n:
        return Estimate(value=None, low=None, high=None, n=0, level=level, method=method, note=missing)
    interval = stats.binomtest(int(hits.sum()), n).proportion_ci(level, method="wilson")
    return Estimate(
        value=float(hits.mean()), low=float(interval.low), high=float(interval.high), n=n, level=level, method=method
    )


def _again(answers: Answers, own: Ints) -> NDArray[np.bool_]:
    """For each pair that a person answered on two comparisons: whether the answers are the same."""
    seen: dict[str, list[int]] = {}
    for at in own:
        seen.setdefault(str(answers.pair[at]), []).append(int(answers.outcome[at]))
    return np.array([len(set(given)) == 1 for given in seen.values() if len(given) > 1], dtype=bool)


def _as_most(answers: Answers, judged: Ints, unit: Ints, person: Ints) -> NDArray[np.bool_]:
    """For each of a person's votes that others voted on too: whether it has the sign of the others' sum."""
    shape = unit.max(initial=-1) + 1
    sums = np.bincount(unit, answers.outcome, minlength=shape)
    counts = np.bincount(unit, minlength=shape)
    mine = person == person[judged[0]] if len(judged) else np.zeros(len(person), bool)
    sums -= np.bincount(unit[mine], answers.outcome[mine], minlength=shape)
    counts -= np.bincount(unit[mine], minlength=shape)
    shared = judged[counts[unit[judged]] > 0]
    return np.sign(sums[unit[shared]]) == answers.outcome[shared]
