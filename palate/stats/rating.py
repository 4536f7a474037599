"""Bradley-Terry strengths with ties (Davidson 1970), their intervals and ranks.

With x = theta_candidate - theta_baseline + side, where side is the advantage of standing on the left, a verdict is

    good, same, bad   with probability proportional to   exp(x / 2), exp(tie), exp(-x / 2)

so exp(x) is the odds of good against bad, and exp(tie) Davidson's nu. The likelihood is concave and depends on the
verdicts only through their counts for each pair and side, so Newton's method takes milliseconds for a million of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linprog
from scipy.sparse.csgraph import connected_components
from scipy.special import log_softmax, softmax

from palate.errors import DataError
from palate.records import Estimate
from palate.stats.estimate import TwoWay, two_way
from palate.stats.wins import checked

ELO = 400 / math.log(10)  # Elo points in one unit of log-odds
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ratings:
    """A fitted model of k systems.

    Attributes:
        strength: log-odds theta of each system; they sum to zero.
        order: indices of the systems, the strongest first.
        ranks: (best, worst) rank of each system: it is below those significantly above it, each at the same level.
        tie: log nu, or None where nobody answered `same`.
        side: log-odds advantage of the left side, or None where it was not asked for.
        log_likelihood: at the maximum.
    """

    strength: tuple[Estimate, ...]
    order: tuple[int, ...]
    ranks: tuple[tuple[int, int], ...]
    tie: Estimate | None
    side: Estimate | None
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


def fit(
    candidate: ArrayLike,
    baseline: ArrayLike,
    outcome: ArrayLike,
    prompt: ArrayLike,
    annotator: ArrayLike | None = None,
    *,
    systems: Sequence[str],
    side: ArrayLike | None = None,
    level: float = 0.95,
) -> Ratings:
    """Maximum likelihood, with two-way cluster-robust ("sandwich") intervals.

    Args:
        candidate, baseline: (n,) indices into `systems`.
        outcome: (n,) of 1 good, 0 same, -1 bad.
        prompt, annotator: (n,) labels of the clusters; annotators may be unknown (None).
        systems: the k names.
        side: (n,) of 1 candidate left, -1 right, 0 unknown; None leaves the side effect out.

    Raises:
        DataError: no verdicts; systems that are not compared, even indirectly; or a likelihood without a maximum.
    """
    outcome = checked(outcome)
    sides = np.zeros_like(outcome) if side is None else np.asarray(side)
    k = len(systems)
    # Pair and side as one integer, whose sorting takes a sixth of the time that columns take.
    keys, cell = np.unique((np.asarray(candidate) * k + np.asarray(baseline)) * 3 + sides + 1, return_inverse=True)
    cells = np.stack([keys // 3 // k, keys // 3 % k, keys % 3 - 1])
    tied = bool((outcome == 0).any())
    kind = 1 - outcome if tied else (1 - outcome) // 2
    features = _features(cells, k, tied, side is not None)
    counts = np.stack([np.bincount(cell[kind == one], minlength=cells.shape[1]) for one in range(len(features))])
    _check(features, counts, cells, systems)
    parameters, information = _maximise(features, counts, k)
    chances = softmax(features @ parameters, axis=0)
    expected = np.einsum("cm,cmp->mp", chances, features)
    sampling = two_way((features - expected)[kind, cell], prompt, annotator)
    # (p, p): a parameter's first-order change for a change of the scores
    influence = np.linalg.inv(information).astype(np.float64)

    estimates = [_estimate(v, d, sampling, outcome.size, level) for v, d in zip(parameters, influence)]
    return Ratings(
        strength=tuple(estimates[:k]),
        order=tuple(np.argsort(-parameters[:k], kind="stable").tolist()),
        ranks=_ranks(parameters[:k], influence[:k], sampling, level),
        tie=estimates[k] if tied else None,
        side=None if side is None else estimates[-1],
        log_likelihood=float((counts * np.log(np.where(counts > 0, chances, 1))).sum()),
    )


def _features(cells: NDArray[np.int_], systems: int, tied: bool, sided: bool) -> Floats:
    """What each parameter adds to the log-odds of good, (same,) bad: (kinds, cells, k [+ tie] [+ side])."""
    rows = np.arange(cells.shape[1])
    x = np.zeros((len(rows), systems + tied + sided))
    x[rows, cells[0]] = 1
    x[rows, cells[1]] = -1
    if sided:
        x[:, -1] = cells[2]
    same = np.zeros_like(x)
    if tied:
        same[:, systems] = 1
    return np.stack([x / 2, same, -x / 2] if tied else [x / 2, -x / 2])


def _information(features: Floats, chances: Floats, n: NDArray[np.int_]) -> Floats:
    """Minus the second derivative of the log-likelihood, given n (cells,) verdicts: (p, p)."""
    expected = np.einsum("cm,cmp->mp", chances, features)
    flat = features.reshape(-1, features.shape[2])
    return flat.T @ ((n * chances).reshape(-1, 1) * flat) - expected.T @ (n[:, None] * expected)


def _maximise(features: Floats, counts: NDArray[np.int_], k: int) -> tuple[Floats, Floats]:
    """Newton's method from zero. Returns parameters (p,) and information (p, p), made regular by sum(theta) = 0."""

    def log_likelihood(at: Floats) -> float:
        return float((counts * log_softmax(features @ at, axis=0)).sum())

    n = counts.sum(0)
    parameters = np.zeros(features.shape[2])
    for _ in range(100):
        chances = softmax(features @ parameters, axis=0)
        information = _information(features, chances, n)
        information[:k, :k] += 1
        step = np.linalg.solve(information, np.einsum("cm,cmp->p", counts - n * chances, features))
        if np.abs(step).max() < 1e-9:
            return parameters, information
        here = log_likelihood(parameters)
        while log_likelihood(parameters + step) < here - 1e-9 * abs(here):
            step /= 2
        parameters = parameters + step
    raise DataError("the ratings do not converge", "check that every pair has more than a few verdicts")


def _check(features: Floats, counts: NDArray[np.int_], cells: NDArray[np.int_], systems: Sequence[str]) -> None:
    """Raise DataError unless the likelihood has one maximum, saying which systems are in the way."""
    k, p = len(systems), features.shape[2]
    graph = sparse.coo_array((np.ones(cells.shape[1]), (cells[0], cells[1])), shape=(k, k))
    parts, part = connected_components(graph, directed=False)
    if parts > 1:
        island = _names(systems, part == np.argmin(np.bincount(part)))
        raise DataError(f"{island} never met the other systems", "compare one of them with one of the others")
    even = np.full(counts.shape, 1 / len(counts))
    if np.linalg.matrix_rank(_information(features, even, counts.sum(0))) < p - 1:
        raise DataError("the side effect cannot be told from the strengths", "leave it out, or show both orders")
    # Albert & Anderson (1984): there is no maximum where some direction makes no verdict seen less likely than another
    # kind, and one more so. A linear program looks for it.
    kinds = range(len(features))
    gaps = [(features[a] - features[b])[counts[a] > 0] for a in kinds for b in kinds if a != b]
    rows = np.concatenate(gaps)
    found = linprog(-rows.sum(0), A_ub=-sparse.csr_array(rows), b_ub=np.zeros(len(rows)), bounds=(-1, 1))
    if -found.fun < 1e-6:
        return
    direction = found.x[:k]
    if np.ptp(direction) < 1e-6:
        raise DataError("nearly every verdict is the same kind", "ratings need both wins and losses")
    best = _names(systems, direction > direction.max() - 1e-6)
    raise DataError(
        f"nothing bounds the lead of {best} over the rest", "collect verdicts until it loses, or leave it out"
    )


def _names(systems: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return " and ".join(system for system, one in zip(systems, chosen) if one)


def _estimate(value: float, direction: Floats, sampling: TwoWay, n: int, level: float) -> Estimate:
    deviation = sampling.deviation(direction)
    half = None if deviation is None else sampling.quantile(level) * deviation
    return Estimate(
        value=float(value),
        low=None if half is None else float(value) - half,
        high=None if half is None else float(value) + half,
        n=n,
        level=level,
        method=f"Davidson, {sampling.method}",
        clusters=sampling.clusters,
        note="; ".join(filter(None, ("" if half else "no interval: nothing varies between clusters", sampling.note))),
    )


def _ranks(strength: Floats, influence: Floats, sampling: TwoWay, level: float) -> tuple[tuple[int, int], ...]:
    """From the intervals of differences, which are narrower than the overlap of two intervals suggests."""
    k = len(strength)
    variance = sampling.variance(influence[:, None, :] - influence[None, :, :])
    if variance is None:
        return ((1, k),) * k
    beats = strength[:, None] - strength[None, :] > sampling.quantile(level) * np.sqrt(variance.clip(min=0))
    np.fill_diagonal(beats, False)
    return tuple((1 + int(beats[:, one].sum()), k - int(beats[one].sum())) for one in range(k))
