"""Good / same / bad: the four forms a side-by-side result is reported in, each with its interval.

    ratio      (G + S) / (B + S)       as Kling reports it, and what "a GSB of 247%" means
    net        (G - B) / (G + S + B)
    win_rate   G / (G + B)
    not_worse  (G + S) / (G + S + B)

All four are one linear function of the counts (G, S, B) over another, so one delta method serves them, on the
scale where each is unbounded: log for the ratio, logit for the two rates. Inputs are columns of equal length n.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import expit

from palate.errors import DataError
from palate.records import Estimate
from palate.stats.estimate import codes, unseen
from palate.stats.tally import Counts, Tally

GOOD, SAME, BAD = 1, 0, -1


class Form(StrEnum):
    RATIO = "ratio"
    NET = "net"
    WIN_RATE = "win_rate"
    NOT_WORSE = "not_worse"


# numerator and denominator as coefficients of (G, S, B), and the range
_FORMS = {
    Form.RATIO: (np.array([1, 1, 0]), np.array([0, 1, 1]), (0, math.inf)),
    Form.NET: (np.array([1, 0, -1]), np.array([1, 1, 1]), (-1, 1)),
    Form.WIN_RATE: (np.array([1, 0, 0]), np.array([1, 0, 1]), (0, 1)),
    Form.NOT_WORSE: (np.array([1, 1, 0]), np.array([1, 1, 1]), (0, 1)),
}


@dataclass(frozen=True)
class Ballots(Counts):
    """Counted verdicts, and the verdicts themselves. Made by `pooled`, `weighted` or `majority`.

    Attributes:
        outcome: (n,) of GOOD, SAME, BAD.
        prompt: (n,) labels of the first kind of cluster.
        annotator: (n,) labels of the second, or None where annotators are unknown or aggregated.
        weight: (n,) what each verdict counts.
    """

    outcome: NDArray[np.int_]
    prompt: NDArray[np.generic]
    annotator: NDArray[np.generic] | None
    weight: NDArray[np.float64]


def pooled(outcome: ArrayLike, prompt: ArrayLike, annotator: ArrayLike | None = None) -> Ballots:
    """Every verdict counts once. Raises DataError for an empty slice or an outcome that is not -1, 0 or 1."""
    return _ballots("pooled", outcome, prompt, annotator, None)


def weighted(outcome: ArrayLike, prompt: ArrayLike, annotator: ArrayLike | None, weight: ArrayLike) -> Ballots:
    """Every verdict counts as much as `weight` (n,), its annotator's, says. Raises DataError for a weight <= 0."""
    return _ballots("weighted", outcome, prompt, annotator, weight)


def majority(outcome: ArrayLike, prompt: ArrayLike, comparison: ArrayLike) -> Ballots:
    """Every comparison counts once: the sign of its summed verdicts, so a split vote is SAME.

    Majorities exaggerate: they move the net away from zero as people are added (see the tests' real data).
    """
    outcome, (unit, _) = checked(outcome), codes(comparison)
    votes, first = majorities(outcome, unit)
    return _ballots("majority", votes, np.asarray(prompt)[first], None, None)


def majorities(outcome: NDArray[np.int_], unit: NDArray[np.intp]) -> tuple[NDArray[np.int_], NDArray[np.intp]]:
    """The majority (k,) of each unit, and one of its verdicts (k,), of verdicts (n,) whose units are numbered."""
    first = np.empty(int(unit.max(initial=-1)) + 1, np.intp)
    first[unit] = np.arange(len(unit))
    return np.sign(np.bincount(unit, outcome)).astype(int), first


def _ballots(
    rule: str, outcome: ArrayLike, prompt: ArrayLike, annotator: ArrayLike | None, weight: ArrayLike | None
) -> Ballots:
    outcome = checked(outcome)
    weight = np.ones(len(outcome)) if weight is None else np.asarray(weight, dtype=float)
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise DataError("a weight that is not a positive number", "leave out the annotators who should not count")
    tally = Tally()
    people = None if annotator is None else codes(annotator)[0]
    tally.add(np.zeros(len(outcome), int), outcome, codes(prompt)[0], people, weight)
    counts = tally.counts(0, rule, "aggregated" if rule == "majority" else "unknown")
    labels = None if annotator is None else np.asarray(annotator)
    return Ballots(**vars(counts), outcome=outcome, prompt=np.asarray(prompt), annotator=labels, weight=weight)


def checked(outcome: ArrayLike) -> NDArray[np.int_]:
    """Outcomes as an array; raises DataError for an empty one, or one that is not all GOOD, SAME or BAD."""
    outcome = np.asarray(outcome)
    if not outcome.size:
        raise DataError("no verdicts in this selection", "widen the selection or import votes")
    if outcome.dtype.kind not in "iuf" or not ((outcome == GOOD) | (outcome == SAME) | (outcome == BAD)).all():
        raise DataError("an outcome that is not good (1), same (0) or bad (-1)", "map or drop it before counting")
    return outcome.astype(int)


def gsb_from_counts(good: float, same: float, bad: float) -> dict[Form, float | None]:
    """The four forms of a published (G, S, B) triple, without intervals; None where a form is undefined.

    Raises DataError for negative or no counts.
    """
    totals = np.array([good, same, bad], dtype=float)
    if (totals < 0).any() or not totals.sum() > 0:
        raise DataError(f"({good}, {same}, {bad}) are not counts", "give three numbers >= 0 that are not all 0")
    return {form: _known(float(_value(form, totals))) for form in Form}


def _value(form: Form, totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The form of (G, S, B) in the last dimension; inf or nan where it is undefined."""
    above, below, _ = _FORMS[form]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (totals @ above) / (totals @ below)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def analytic(counts: Counts, form: Form, level: float = 0.95) -> Estimate:
    """One form, with a cluster-robust t interval over prompts and, where they are known, annotators.

    Source: Cameron, Gelbach & Miller (2011) for the variance, the delta method for the form. Where a kind of verdict
    that the form needs was never seen, the bound of `_unseen` takes its place.
    """
    value, deviation = value_and_deviation(counts, form)
    if deviation is None:
        return _without_deviation(counts, form, value, level)
    half = counts.sampling.quantile(level) * deviation
    if form is Form.RATIO:
        factor = math.exp(min(half / value, 600))  # beyond e^709 there are no floats
        low, high = value / factor, value * factor
    elif form is Form.NET:
        low, high = max(value - half, -1.0), min(value + half, 1.0)
    else:
        logit, half = math.log(value / (1 - value)), half / (value * (1 - value))
        low, high = float(expit(logit - half)), float(expit(logit + half))
    return _estimate(counts, value, low, high, level, counts.sampling.method)


def bootstrap(ballots: Ballots, form: Form, level: float = 0.95, replicates: int = 2000, seed: int = 0) -> Estimate:
    """One form, with the percentile interval of the two-way ("pigeonhole", Owen 2007) cluster bootstrap.

    Prompts and annotators are drawn with replacement, independently; a verdict counts as often as the product of its
    two draws. With few annotators (below about eight) it is coarse and too narrow, which `analytic` is not; with many
    it is a little too wide (docs/coverage.md).
    """
    value, deviation = value_and_deviation(ballots, form)
    if deviation is None:
        return _without_deviation(ballots, form, value, level)
    prompts, n_prompts = codes(ballots.prompt)
    annotators, n_annotators = codes(np.zeros_like(prompts) if ballots.annotator is None else ballots.annotator)
    shape = (n_annotators, n_prompts)
    onehot = (ballots.outcome == np.array([[GOOD], [SAME], [BAD]])) * ballots.weight
    tables = [sparse.csr_array((weight, (annotators, prompts)), shape=shape) for weight in onehot]
    generator = np.random.default_rng(seed)
    replicas: list[NDArray[np.float64]] = []
    for start in range(0, replicates, 100):  # a hundred at a time, so that memory is bounded by 100 x prompts
        size = min(100, replicates - start)
        prompt_draws = generator.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=size)
        annotator_draws = generator.multinomial(n_annotators, np.full(n_annotators, 1 / n_annotators), size=size)
        totals = [(annotator_draws * (table @ prompt_draws.T).T).sum(1) for table in tables]
        replicas.append(_value(form, np.stack(totals, axis=-1)))
    values = np.concatenate(replicas)
    # "nearest": interpolation between a finite and an infinite replicate is not a number
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    undefined = int((~np.isfinite(values)).sum())
    note = f"undefined in {undefined} of {replicates} replicates" if undefined else ""
    method = ballots.sampling.method.replace("robust t", "bootstrap")
    return _estimate(ballots, value, _known(float(low)), _known(float(high)), level, method, note)


def net_p_value(counts: Counts) -> float | None:
    """Two-sided p of the net being zero, from the variance of its interval; None where there is no interval.

    Where all verdicts are good, or all bad, it is the sign test over prompts.
    """
    value, deviation = value_and_deviation(counts, Form.NET)
    if deviation is not None:
        return counts.sampling.p_value(value, deviation)
    if abs(value) == 1:
        return min(1.0, 2 * 0.5**counts.sampling.n_prompts)
    return 1.0 if counts.totals[1] == counts.totals.sum() else None


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjusted p (Holm 1979): the family-wise error over all of `p_values` (m,) is controlled."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted


def value_and_deviation(counts: Counts, form: Form) -> tuple[float, float | None]:
    """A form and its standard deviation: None at the ends of its range, without a sample, or where nothing varies."""
    above, below, (least, most) = _FORMS[form]
    value = float(_value(form, counts.totals))
    if not least < value < most:
        return value, None
    return value, counts.sampling.deviation((above - value * below) / (below @ counts.totals))


def _without_deviation(counts: Counts, form: Form, value: float, level: float) -> Estimate:
    """The estimate where the delta method has nothing to say."""
    _, _, (least, most) = _FORMS[form]
    shares = counts.totals / counts.totals.sum()
    if math.isnan(value):
        return _estimate(counts, None, None, None, level, "none", "no verdict is good or bad")
    if value in (least, most) or max(shares) == 1:
        low, high, note = _unseen(form, shares, counts.sampling.n_prompts, level)
        return _estimate(counts, _known(value), _known(low), _known(high), level, "binomial bound", note)
    note = "no interval: neither prompts nor annotators vary"
    return _estimate(counts, value, None, None, level, "none", note)


def _unseen(form: Form, shares: NDArray[np.float64], prompts: int, level: float) -> tuple[float, float, str]:
    """The range of a form over what a kind of verdict that was never seen may have as its true share.

    A prompt draws it with probability <= u, the exact binomial bound; so its share of verdicts is <= u too. It is a
    bound over prompts and says nothing of other annotators.
    """
    bound = unseen(prompts, level)
    missing = np.eye(3)[shares == 0]
    reach = _value(form, np.vstack([shares, (1 - bound) * shares + bound * missing]))
    names = " or ".join(np.array(["good", "same", "bad"])[shares == 0])
    note = f"no {names} verdict: a share of at most {bound:.3f} (binomial over prompts alone, n = {prompts})"
    return float(reach.min()), float(reach.max()), note


def _estimate(
    counts: Counts,
    value: float | None,
    low: float | None,
    high: float | None,
    level: float,
    method: str,
    note: str = "",
) -> Estimate:
    return Estimate(
        value=value,
        low=low,
        high=high,
        n=counts.n,
        level=level,
        method=f"{counts.rule}, {method}",
        clusters=counts.sampling.clusters,
        note="; ".join(filter(None, (note, counts.sampling.note))),
    )
