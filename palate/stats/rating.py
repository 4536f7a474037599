"""Bradley-Terry strengths with ties, their intervals and ranks.

With x = theta_candidate - theta_baseline + side + covariates, where side is the advantage of standing on the left and
covariates are differences such as in length, resolution or frame rate ("style control"), `ties` says how likely good,
same and bad are. So exp(x) is the odds of good against bad where neither ties.

The likelihood is concave and depends on the verdicts only through their counts for each pair, side and covariates, so
Newton's method takes milliseconds for a million of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linprog
from scipy.sparse.csgraph import connected_components

from palate.errors import DataError
from palate.records import Estimate
from palate.stats.estimate import Clusters, TwoWay, codes
from palate.stats.ties import START, Floats, Ties, curve
from palate.stats.wins import checked

ELO = 400 / math.log(10)  # Elo points in one unit of log-odds
_MODEL: dict[Ties, str] = {"davidson": "Davidson", "rao_kupper": "Rao-Kupper"}
_LARGEST = 3000  # cells that the search for a separating direction takes; with more, divergence is what tells it
SIDE = "standing on the left"
Ranks = tuple[tuple[int, int], ...]
# Of verdicts (n,): kind * m + cell, with 0 good, 1 same, 2 bad and m cells; the number of the prompt; of the annotator.
Part = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp] | None]


@dataclass(frozen=True)
class Ratings:
    """A fitted model of k systems.

    Attributes:
        strength: log-odds theta of each system; they sum to zero.
        order: indices of the systems, the strongest first.
        ranks: (best, worst) rank of each system: it is below those significantly above it, each at the same level.
        ranks_at_once: the same, all systems' true ranks within theirs with the level's probability (Bonferroni over
            pairs), for a statement about the whole table.
        tie: log nu (Davidson) or log k (Rao-Kupper), or None where nobody answered `same`.
        effects: log-odds for a unit of each: of standing on the left where that was asked for, and of the covariates.
        log_likelihood: at the maximum.
    """

    strength: tuple[Estimate, ...]
    order: tuple[int, ...]
    ranks: Ranks
    ranks_at_once: Ranks
    tie: Estimate | None
    effects: Mapping[str, Estimate]
    log_likelihood: float

    @property
    def elo(self) -> tuple[Estimate, ...]:
        """Strengths on the Elo scale (400 / ln 10 points for a unit of log-odds), anchored at a mean of 1000."""

        def scaled(value: float | None) -> float | None:
            return None if value is None else 1000 + ELO * value

        return tuple(
            one.model_copy(update={"value": scaled(one.value), "low": scaled(one.low), "high": scaled(one.high)})
            for one in self.strength
        )

    @property
    def arena_ranks(self) -> tuple[int | None, ...]:
        """LMArena's "Rank (UB)": one more than the systems whose interval lies above this one's; None without one."""
        lows = np.sort([one.low for one in self.strength if one.low is not None])
        return tuple(
            None if one.high is None else 1 + len(lows) - int(np.searchsorted(lows, one.high, side="right"))
            for one in self.strength
        )


@dataclass(frozen=True)
class Cells:
    """Verdicts that the model cannot tell apart, counted together.

    Attributes:
        x: (m, k + q) what each of k strengths and q effects adds to a cell's lead.
        counts: (3, m) good, same and bad verdicts.
        systems: names (k,).
        effects: names (q,).
    """

    x: Floats
    counts: NDArray[np.int_]
    systems: Sequence[str]
    effects: Sequence[str]

    @property
    def tied(self) -> bool:
        return bool(self.counts[1].any())

    @property
    def seen(self) -> NDArray[np.int_]:
        """Counts of the kinds that the model has: good, same and bad, or without ties good and bad."""
        return self.counts if self.tied else self.counts[::2]


def cells(
    candidate: NDArray[np.int_],
    baseline: NDArray[np.int_],
    effects: Mapping[str, Floats],
    counts: NDArray[np.int_],
    systems: Sequence[str],
) -> Cells:
    """Cells (m,) of a candidate against a baseline, indices into `systems`, with what each effect is in them.

    Raises DataError for an effect that is not finite.
    """
    for name, one in effects.items():
        if not np.isfinite(one).all():
            raise DataError(f"{name} is not known for every verdict", "leave the others out, or the covariate")
    x = np.zeros((len(candidate), len(systems)))
    x[np.arange(len(x)), candidate] = 1
    x[np.arange(len(x)), baseline] -= 1
    return Cells(np.column_stack([x, *effects.values()]), counts, systems, list(effects))


def fit(
    candidate: ArrayLike,
    baseline: ArrayLike,
    outcome: ArrayLike,
    prompt: ArrayLike | None = None,
    annotator: ArrayLike | None = None,
    *,
    systems: Sequence[str],
    side: ArrayLike | None = None,
    covariates: Mapping[str, ArrayLike] | None = None,
    ties: Ties = "davidson",
    level: float = 0.95,
) -> Ratings:
    """Maximum likelihood, with two-way cluster-robust ("sandwich") intervals.

    Args:
        candidate, baseline: (n,) indices into `systems`.
        outcome: (n,) of 1 good, 0 same, -1 bad.
        prompt, annotator: (n,) labels of the clusters; annotators may be unknown (None). Without prompts there are no
            intervals.
        systems: the k names.
        side: (n,) of 1 candidate left, -1 right, 0 unknown; None leaves the side effect out.
        covariates: name -> (n,) the candidate's less the baseline's. A number that differs with every verdict makes as
            many cells as verdicts: round it.
        ties: the model of ties.

    Raises:
        DataError: no verdicts; systems that are not compared, even indirectly; effects that cannot be told apart; or a
            likelihood without a maximum.
    """
    outcome, candidate, baseline = checked(outcome), np.asarray(candidate), np.asarray(baseline)
    given = {SIDE: side, **(covariates or {})} if side is not None else covariates or {}
    effects = {name: np.broadcast_to(np.asarray(one, float), outcome.shape) for name, one in given.items()}
    cell, m = codes(candidate * len(systems) + baseline)
    for one in effects.values():
        level_of, size = codes(one)
        cell, m = codes(cell * size + level_of)
    row = (1 - outcome) * m + cell
    first = np.empty(m, np.intp)
    first[cell] = np.arange(len(cell))  # a verdict of each cell
    counts = np.bincount(row, minlength=3 * m).reshape(3, m)
    told = cells(
        candidate[first], baseline[first], {name: one[first] for name, one in effects.items()}, counts, systems
    )
    if prompt is None:
        return fit_cells(told, None, None, ties, level)
    people, size = (None, None) if annotator is None else codes(annotator)
    return fit_cells(told, [(row, codes(prompt)[0], people)], size, ties, level)


def fit_cells(
    cells: Cells, parts: Iterable[Part] | None, annotators: int | None, ties: Ties = "davidson", level: float = 0.95
) -> Ratings:
    """`fit` of verdicts that are counted already.

    Args:
        parts: the same verdicts, each part with all those of its prompts; looked at once. None: no intervals.
        annotators: how many there are, at most; None where they are unknown.

    Raises DataError as `fit` does.
    """
    x, k, tied, n = cells.x, len(cells.systems), cells.tied, int(cells.counts.sum())
    _check(cells)
    parameters, information, log_likelihood = _maximise(cells, ties)
    sampling = None
    if parts is not None:
        at = curve(ties, x @ parameters[: x.shape[1]], float(parameters[-1]) if tied else None)
        slopes = at.x[:, :, None] * x
        slopes = np.concatenate([slopes, at.t[:, :, None]], axis=2) if tied else np.stack([slopes[0], 0 * x, slopes[1]])
        clusters = Clusters(slopes.reshape(-1, slopes.shape[2]), annotators)
        for part in parts:
            clusters.add(*part)
        sampling = clusters.sampling
    # (p, p): a parameter's first-order change for a change of the scores
    influence = np.linalg.inv(information).astype(np.float64)

    method = _MODEL[ties] if tied else "Bradley-Terry"
    estimates = [_estimate(v, d, sampling, n, level, method) for v, d in zip(parameters, influence)]
    variance = None if sampling is None else sampling.differences(influence[:k])
    at_once = 1 - (1 - level) / max(k * (k - 1) / 2, 1)
    return Ratings(
        strength=tuple(estimates[:k]),
        order=tuple(np.argsort(-parameters[:k], kind="stable").tolist()),
        ranks=_ranks(parameters[:k], variance, sampling, level),
        ranks_at_once=_ranks(parameters[:k], variance, sampling, at_once),
        tie=estimates[-1] if tied else None,
        effects=dict(zip(cells.effects, estimates[k:])),
        log_likelihood=log_likelihood,
    )


def _maximise(cells: Cells, ties: Ties) -> tuple[Floats, Floats, float]:
    """Newton's method. Returns parameters (q [+ tie],), information made regular by sum(theta) = 0, log-likelihood."""
    x, counts, k, tied = cells.x, cells.seen, len(cells.systems), cells.tied
    q = x.shape[1]

    def at(parameters: Floats):
        return curve(ties, x @ parameters[:q], float(parameters[q]) if tied else None)

    def log_likelihood(parameters: Floats) -> float:
        log = at(parameters).log
        return float((counts * np.where(counts > 0, log, 0)).sum())

    parameters = np.append(np.zeros(q), [START[ties]] * tied)
    here = log_likelihood(parameters)
    for _ in range(100):
        now = at(parameters)
        slope, bend = (counts * now.x).sum(0), (counts * now.xx).sum(0)
        gradient, information = slope @ x, x.T @ (bend[:, None] * x)
        if tied:
            cross = (counts * now.xt).sum(0) @ x
            information = np.block([[information, cross[:, None]], [cross, (counts * now.tt).sum()]])
            gradient = np.append(gradient, (counts * now.t).sum())
        information[:k, :k] += 1
        step = np.linalg.solve(information, gradient)
        if np.abs(step).max() < 1e-9:
            return parameters, information, here
        while not (there := log_likelihood(parameters + step)) >= here - 1e-9 * abs(here):
            step = step / 2
        parameters, here = parameters + step, there
    raise DataError("the ratings do not converge", "check that every pair has more than a few verdicts")


def _check(cells: Cells) -> None:
    """Raise DataError unless the likelihood has one maximum, saying which systems or effects are in the way."""
    x, counts, systems, names = cells.x, cells.seen, cells.systems, cells.effects
    k = len(systems)
    if k < 2:
        raise DataError("one system has nothing to be rated against", "compare two systems or more")
    graph = sparse.coo_array((np.ones(len(x)), ((x[:, :k] > 0).argmax(1), (x[:, :k] < 0).argmax(1))), shape=(k, k))
    parts, part = connected_components(graph, directed=False)
    if parts > 1:
        island = _names(systems, part == np.argmin(np.bincount(part)))
        raise DataError(f"{island} never met the other systems", "compare one of them with one of the others")
    if np.linalg.matrix_rank(x.T @ x) < x.shape[1] - 1:
        raise DataError(
            f"{' and '.join(names)} cannot be told from the strengths", "leave it out, or show pairs that differ in it"
        )
    # A cell with both wins and losses bounds its lead, and any tie bounds the tie parameter: enough of them decide.
    mixed = x[(counts[0] > 0) & (counts[-1] > 0)]
    if len(x) > _LARGEST or np.linalg.matrix_rank(mixed.T @ mixed) == x.shape[1] - 1:
        return
    # Albert & Anderson (1984): there is no maximum where some direction makes no verdict seen less likely than another
    # kind, and one more so. A linear program looks for it. Both models of ties have the same such directions.
    tie = np.zeros((len(x), 1))
    features = [np.hstack([x / 2, tie]), np.hstack([0 * x, tie + 1]), np.hstack([-x / 2, tie])]
    features = features if cells.tied else [one[:, :-1] for one in (features[0], features[2])]
    kinds = range(len(features))
    gaps = [(features[a] - features[b])[counts[a] > 0] for a in kinds for b in kinds if a != b]
    rows = np.concatenate(gaps)
    found = linprog(-rows.sum(0), A_ub=-sparse.csr_array(rows), b_ub=np.zeros(len(rows)), bounds=(-1, 1))
    if -found.fun < 1e-6:
        return
    direction = found.x[:k]
    if np.ptp(direction) < 1e-6:
        if names and np.abs(found.x[k : x.shape[1]]).max() > 1e-6:
            raise DataError(f"{' or '.join(names)} alone decides every verdict", "leave it out, or collect verdicts")
        raise DataError("nearly every verdict is the same kind", "ratings need both wins and losses")
    best = _names(systems, direction > direction.max() - 1e-6)
    raise DataError(
        f"nothing bounds the lead of {best} over the rest", "collect verdicts until it loses, or leave it out"
    )


def _names(systems: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return " and ".join(system for system, one in zip(systems, chosen) if one)


def _estimate(value: float, direction: Floats, sampling: TwoWay | None, n: int, level: float, method: str) -> Estimate:
    if sampling is None:
        note = "no interval: no prompts were given"
        return Estimate(value=float(value), low=None, high=None, n=n, level=level, method=method, note=note)
    deviation = sampling.deviation(direction)
    half = None if deviation is None else sampling.quantile(level) * deviation
    return Estimate(
        value=float(value),
        low=None if half is None else float(value) - half,
        high=None if half is None else float(value) + half,
        n=n,
        level=level,
        method=f"{method}, {sampling.method}",
        clusters=sampling.clusters,
        note="; ".join(filter(None, ("" if half else "no interval: nothing varies between clusters", sampling.note))),
    )


def _ranks(strength: Floats, variance: Floats | None, sampling: TwoWay | None, level: float) -> Ranks:
    """From the intervals of differences, which are narrower than the overlap of two intervals suggests."""
    k = len(strength)
    if sampling is None or variance is None:
        return ((1, k),) * k
    beats = strength[:, None] - strength[None, :] > sampling.quantile(level) * np.sqrt(variance.clip(min=0))
    np.fill_diagonal(beats, False)
    return tuple((1 + int(beats[:, one].sum()), k - int(beats[one].sum())) for one in range(k))
