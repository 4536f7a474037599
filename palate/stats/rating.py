"""Bradley-Terry strengths with ties, their intervals and ranks.

With x = theta_candidate - theta_baseline + side + covariates, where side is the advantage of standing on the left and
covariates are differences such as in length, resolution or frame rate ("style control"), `ties` says how likely good,
same and bad are. So exp(x) is the odds of good against bad where neither ties.

The likelihood is concave and depends on the verdicts only through their counts for each pair, side and covariates, so
Newton's method takes milliseconds for a million of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linprog
from scipy.sparse.csgraph import connected_components

from palate.errors import DataError
from palate.records import Estimate
from palate.stats.estimate import TwoWay, codes, two_way
from palate.stats.ties import START, Floats, Ties, curve
from palate.stats.wins import checked

ELO = 400 / math.log(10)  # Elo points in one unit of log-odds
_MODEL: dict[Ties, str] = {"davidson": "Davidson", "rao_kupper": "Rao-Kupper"}
_LARGEST = 3000  # cells that the search for a separating direction takes; with more, divergence is what tells it
Ranks = tuple[tuple[int, int], ...]


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
        side: log-odds advantage of the left side, or None where it was not asked for.
        covariates: log-odds for a unit of each.
        log_likelihood: at the maximum.
    """

    strength: tuple[Estimate, ...]
    order: tuple[int, ...]
    ranks: Ranks
    ranks_at_once: Ranks
    tie: Estimate | None
    side: Estimate | None
    covariates: Mapping[str, Estimate]
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
        return tuple(
            None
            if one.high is None
            else 1 + sum(other.low is not None and other.low > one.high for other in self.strength)
            for one in self.strength
        )


@dataclass(frozen=True)
class _Cells:
    """The verdicts that the model cannot tell apart, counted together.

    Attributes:
        x: (m, q) what each of k strengths, side and covariates adds to a cell's lead.
        counts: (kinds, m) verdicts.
        row: (n,) kind * m + cell of each verdict.
        k: systems.
    """

    x: Floats
    counts: NDArray[np.int_]
    row: NDArray[np.intp]
    k: int


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
    outcome = checked(outcome)
    extras = {name: np.asarray(one, float) for name, one in (covariates or {}).items()}
    for name, one in extras.items():
        if not np.isfinite(one).all():
            raise DataError(f"{name} is not known for every verdict", "leave the others out, or the covariate")
    tied = bool((outcome == 0).any())
    cells = _cells(
        np.asarray(candidate), np.asarray(baseline), outcome, side, list(extras.values()), len(systems), tied
    )
    names = [*(["the side effect"] if side is not None else []), *extras]
    _check(cells, systems, tied, names)
    parameters, information, log_likelihood = _maximise(cells, ties, tied)
    k = len(systems)
    if prompt is None:
        sampling = None
    else:
        at = curve(ties, cells.x @ parameters[: cells.x.shape[1]], float(parameters[-1]) if tied else None)
        scores = (at.x[:, :, None] * cells.x).reshape(-1, cells.x.shape[1])
        scores = np.column_stack([scores, at.t.reshape(-1, 1)]) if tied else scores
        sampling = two_way(scores, prompt, annotator, row=cells.row)
    # (p, p): a parameter's first-order change for a change of the scores
    influence = np.linalg.inv(information).astype(np.float64)

    method = _MODEL[ties] if tied else "Bradley-Terry"
    estimates = [_estimate(v, d, sampling, outcome.size, level, method) for v, d in zip(parameters, influence)]
    sided = side is not None
    return Ratings(
        strength=tuple(estimates[:k]),
        order=tuple(np.argsort(-parameters[:k], kind="stable").tolist()),
        ranks=_ranks(parameters[:k], influence[:k], sampling, level),
        ranks_at_once=_ranks(parameters[:k], influence[:k], sampling, 1 - (1 - level) / max(k * (k - 1) / 2, 1)),
        tie=estimates[-1] if tied else None,
        side=estimates[k] if sided else None,
        covariates=dict(zip(extras, estimates[k + sided :])),
        log_likelihood=log_likelihood,
    )


def _cells(
    candidate: NDArray[np.int_],
    baseline: NDArray[np.int_],
    outcome: NDArray[np.int_],
    side: ArrayLike | None,
    extras: Sequence[Floats],
    k: int,
    tied: bool,
) -> _Cells:
    sides = 0 if side is None else np.asarray(side)
    keys = (candidate * k + baseline) * 3 + sides + 1  # pair and side as one integer
    for one in extras:
        level, size = codes(one)
        keys = codes(keys)[0] * size + level
    cell, m = codes(keys)
    kind = 1 - outcome if tied else (1 - outcome) // 2
    row = kind * m + cell
    counts = np.bincount(row, minlength=(3 if tied else 2) * m).reshape(-1, m)
    first = np.empty(m, np.intp)
    first[cell] = np.arange(len(cell))  # a verdict of each cell
    x = np.zeros((m, k))
    x[np.arange(m), candidate[first]] = 1
    x[np.arange(m), baseline[first]] -= 1
    more = [np.broadcast_to(sides, candidate.shape)] if side is not None else []
    return _Cells(np.column_stack([x, *(one[first] for one in (*more, *extras))]), counts, row, k)


def _maximise(cells: _Cells, ties: Ties, tied: bool) -> tuple[Floats, Floats, float]:
    """Newton's method. Returns parameters (q [+ tie],), information made regular by sum(theta) = 0, log-likelihood."""
    x, counts, k = cells.x, cells.counts, cells.k
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


def _check(cells: _Cells, systems: Sequence[str], tied: bool, names: Sequence[str]) -> None:
    """Raise DataError unless the likelihood has one maximum, saying which systems or effects are in the way."""
    x, k = cells.x, cells.k
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
    mixed = x[(cells.counts[0] > 0) & (cells.counts[-1] > 0)]
    if len(x) > _LARGEST or np.linalg.matrix_rank(mixed.T @ mixed) == x.shape[1] - 1:
        return
    # Albert & Anderson (1984): there is no maximum where some direction makes no verdict seen less likely than another
    # kind, and one more so. A linear program looks for it. Both models of ties have the same such directions.
    tie = np.zeros((len(x), 1))
    features = [np.hstack([x / 2, tie]), np.hstack([0 * x, tie + 1]), np.hstack([-x / 2, tie])]
    features = features if tied else [one[:, :-1] for one in (features[0], features[2])]
    kinds = range(len(features))
    gaps = [(features[a] - features[b])[cells.counts[a] > 0] for a in kinds for b in kinds if a != b]
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


def _ranks(strength: Floats, influence: Floats, sampling: TwoWay | None, level: float) -> Ranks:
    """From the intervals of differences, which are narrower than the overlap of two intervals suggests."""
    k = len(strength)
    variance = None if sampling is None else sampling.variance(influence[:, None, :] - influence[None, :, :])
    if sampling is None or variance is None:
        return ((1, k),) * k
    beats = strength[:, None] - strength[None, :] > sampling.quantile(level) * np.sqrt(variance.clip(min=0))
    np.fill_diagonal(beats, False)
    return tuple((1 + int(beats[:, one].sum()), k - int(beats[one].sum())) for one in range(k))
