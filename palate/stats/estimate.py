"""The variance of a statistic when prompts and annotators are both samples.

A statistic that is (to first order) a sum over verdicts of scores s_i has the two-way cluster-robust
variance of Cameron, Gelbach & Miller (2011), eq. 2.3:

    V = V_prompt + V_annotator - V_(prompt, annotator),   V_c = C / (C - 1) * sum over clusters (sum of s_i)^2

Departure: where chance makes V smaller than one of its three parts, the largest part is used (MacKinnon,
Nielsen & Webb 2024), not the usual zero, because a zero variance claims certainty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_FITS = 1 << 20  # numbers in a table that a processor's cache nearly holds


@dataclass(frozen=True)
class TwoWay:
    """Outer products (p, p) of the cluster sums of per-verdict scores (n, p), and how many clusters there are.

    `n_annotators` is None where the annotators are no sample, and `absent` says why: unknown, or already aggregated.
    """

    by_prompt: NDArray[np.float64]
    by_annotator: NDArray[np.float64]
    by_both: NDArray[np.float64]
    n_prompts: int
    n_annotators: int | None
    absent: str = "unknown"

    @property
    def _sampled(self) -> list[int]:
        """Sizes of the samples that a variance can be computed over."""
        return [size for size in (self.n_prompts, self.n_annotators or 0) if size > 1]

    @property
    def clusters(self) -> dict[str, int]:
        annotators = {} if self.n_annotators is None else {"annotators": self.n_annotators}
        return {"prompts": self.n_prompts, **annotators}

    @property
    def method(self) -> str:
        ways = {0: "no", 1: "one-way", 2: "two-way"}[len(self._sampled)]
        return f"{ways} cluster-robust t"

    @property
    def note(self) -> str:
        """What the interval does not cover; empty where it covers other prompts and other annotators."""
        gaps: list[str] = []
        if self.n_prompts == 1:
            gaps.append("one prompt: the interval does not cover other prompts")
        if self.n_annotators is None:
            gaps.append(f"annotators are {self.absent}: the interval does not cover other annotators")
        elif self.n_annotators == 1:
            gaps.append("one annotator: the interval does not cover other annotators")
        return "; ".join(gaps)

    @property
    def reversed(self) -> "TwoWay":
        """The same of scores whose columns come in the other order."""
        by_prompt, by_annotator = self.by_prompt[::-1, ::-1], self.by_annotator[::-1, ::-1]
        return TwoWay(by_prompt, by_annotator, self.by_both[::-1, ::-1], self.n_prompts, self.n_annotators, self.absent)

    def variance(self, direction: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Variance of `direction` (..., p) times the summed scores, shape (...); None without a sample."""

        return self._combined(lambda outer: ((direction @ outer) * direction).sum(-1))

    def differences(self, directions: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """`variance` of every one of `directions` (k, p) less every other: (k, k)."""

        def form(outer: NDArray[np.float64]) -> NDArray[np.float64]:
            products = directions @ outer @ directions.T
            return np.diag(products)[:, None] + np.diag(products) - products - products.T

        return self._combined(form)

    def _combined(self, form: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """The variance from what `form` makes of each way of clustering; None without a sample."""
        if not self._sampled:
            return None
        if len(self._sampled) == 1:
            return form(self.by_prompt if self.n_prompts > 1 else self.by_annotator)
        prompt, annotator, both = form(self.by_prompt), form(self.by_annotator), form(self.by_both)
        return np.max([prompt + annotator - both, prompt, annotator, both], axis=0)

    def deviation(self, direction: NDArray[np.float64]) -> float | None:
        """Standard deviation along one `direction` (p,); None without a sample, or where nothing in it varies."""
        variance = self.variance(direction)
        # The smallest true variance among a million verdicts is near 1e-12; below 1e-18 is rounding.
        return None if variance is None or variance < 1e-18 else float(np.sqrt(variance))

    def quantile(self, level: float) -> float:
        """Student's t for a two-sided interval, with the smaller sample's size less one degrees of freedom."""
        return student(level, min(self._sampled) - 1)

    def p_value(self, value: float, deviation: float) -> float:
        """Two-sided p of `value` being zero, given its standard deviation."""
        return float(2 * stats.t.sf(abs(value) / deviation, min(self._sampled) - 1))


def unseen(prompts: int, level: float) -> float:
    """The most that the share of what none of `prompts` prompts has shown may be, in a two-sided exact interval.

    1 - (alpha / 2)^(1 / prompts), the end of Clopper and Pearson's interval that the "rule of three" approximates.
    """
    return 1 - ((1 - level) / 2) ** (1 / prompts)


def two_way(
    scores: NDArray[np.float64],
    prompt: ArrayLike,
    annotator: ArrayLike | None,
    absent: str = "unknown",
    row: NDArray[np.intp] | None = None,
) -> TwoWay:
    """Aggregate scores by prompt, annotator and their intersection.

    Args:
        scores: (n, p) of each verdict; or (r, p) of each kind of verdict.
        prompt, annotator: (n,) labels of any type.
        absent: why there are no annotators.
        row: (n,) the row of `scores` that a verdict has; None: its own.

    Memory beside the input is a few integers a verdict, and at most clusters x p.
    """
    prompts, _ = codes(prompt)
    annotators, people = (None, None) if annotator is None else codes(annotator)
    clusters = Clusters(scores, people, absent)
    clusters.add(np.arange(len(prompts)) if row is None else row, prompts, annotators)
    return clusters.sampling


class Clusters:
    """`two_way` a part of the verdicts at a time. Its memory is annotators x p and p x p, and what a part takes.

    Args:
        scores: (r, p) of each kind of verdict.
        annotators: how many there are, at most; None where they are no sample, and `absent` says why.
    """

    def __init__(self, scores: NDArray[np.float64], annotators: int | None, absent: str = "unknown") -> None:
        p = scores.shape[1]
        self._scores, self._parts, self._absent = scores, _sparse(scores), absent
        self._by_prompt, self._by_both, self._prompts, self._both = np.zeros((p, p)), np.zeros((p, p)), 0, 0
        self._by_annotator = None if annotators is None else np.zeros((annotators, p))
        self._judged = np.zeros(annotators or 0, int)

    def add(self, row: NDArray[np.intp], prompt: NDArray[np.intp], annotator: NDArray[np.intp] | None) -> None:
        """Verdicts (n,): the row of each in `scores`, and numbers from zero. It has all verdicts of its prompts."""
        total, size = _outer(self._scores, row, prompt)
        self._by_prompt, self._prompts = self._by_prompt + total, self._prompts + size
        if self._by_annotator is None or annotator is None:
            return
        people = len(self._judged)
        self._judged += np.bincount(annotator, minlength=people)
        self._by_annotator += _sums(self._parts, row, annotator, people, self._scores.shape[1])
        total, size = _outer(self._scores, row, prompt * people + annotator)
        self._by_both, self._both = self._by_both + total, self._both + size

    @property
    def sampling(self) -> TwoWay:
        by_prompt, by_both = corrected(self._by_prompt, self._prompts), corrected(self._by_both, self._both)
        if self._by_annotator is None:
            return TwoWay(by_prompt, by_both, by_both, self._prompts, None, self._absent)
        people = int(np.count_nonzero(self._judged))
        by_annotator = corrected(self._by_annotator.T @ self._by_annotator, people)
        return TwoWay(by_prompt, by_annotator, by_both, self._prompts, people)


@cache
def student(level: float, freedom: int) -> float:
    """Student's t for a two-sided interval. Asked of the same few samples thousands of times."""
    return float(stats.t.ppf((1 + level) / 2, freedom))


def corrected(total: NDArray[np.float64], clusters: int) -> NDArray[np.float64]:
    """C / (C - 1) times a sum over C clusters, whose common centre was estimated from them."""
    return total * (clusters / max(clusters - 1, 1))


def percentiles(replicas: NDArray[np.float64], units: int, level: float) -> tuple[float, float]:
    """The percentile interval of bootstrap replicas (r,), nan left out, of a statistic of two or more `units`.

    Replicas of few units vary by too little, and how much they vary is itself estimated: hence percentiles further out
    than the level's (Hesterberg 2015, The American Statistician 69, section 3.3).
    """
    tail = float(stats.norm.sf(np.sqrt(units / (units - 1)) * stats.t.ppf((1 + level) / 2, units - 1)))
    low, high = np.nanquantile(replicas, [tail, 1 - tail], method="weibull")
    return float(low), float(high)


def codes(labels: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """Labels as integers 0..k-1, and k."""
    values, inverse = distinct(labels)
    return inverse, len(values)


def distinct(labels: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.intp]]:
    """The labels there are, sorted, and the place of each label among them, as numpy's `unique` has it.

    But linear in their number for text that repeats, and for integers that are not far apart.
    """
    given = np.asarray(labels)
    if given.dtype.kind in "iu" and given.size and (span := int(np.ptp(given)) + 1) <= 12 * given.size + 1000:
        shifted = given - given.min()
        present, place = np.zeros(span, bool), np.empty(span, np.int32)
        present[shifted] = True
        values = np.flatnonzero(present)
        place[values] = np.arange(len(values))
        return values + given.min(), place[shifted].astype(np.intp)
    if given.dtype.kind == "O":
        values = sorted(set(given.tolist()))
        place = {value: at for at, value in enumerate(values)}
        return np.array(values, object), np.fromiter(map(place.__getitem__, given.tolist()), np.intp, given.size)
    return np.unique(given, return_inverse=True)


def _outer(
    scores: NDArray[np.float64], row: NDArray[np.intp], cluster: NDArray[np.intp]
) -> tuple[NDArray[np.float64], int]:
    """The sum over clusters of the outer product of their summed scores, (p, p), and how many clusters there are."""
    p, bits = scores.shape[1], len(scores).bit_length()
    if (int(cluster.max(initial=-1)) + 1) * p <= _FITS:
        return _summed(scores, row, cluster), int(np.count_nonzero(np.bincount(cluster)))
    # Cluster and row sorted as one integer, and a short one: several times as fast as sorting the one and taking the
    # other along.
    packed = cluster << bits | row
    packed = np.sort(packed.astype(np.uint32) if packed.max() < 2**32 else packed)
    cluster, row = packed >> bits, (packed & ((1 << bits) - 1)).astype(np.intp)
    same = cluster[1:] == cluster[:-1]
    members = np.diff(np.flatnonzero(np.concatenate([[True], ~same, [True]])))
    if members @ (members - 1) > 8 * len(row):  # crowded
        return _summed(scores, row, np.concatenate([[0], np.cumsum(~same)])), len(members)
    return _paired(scores, row, np.append(same, False)), len(members)


def _summed(scores: NDArray[np.float64], row: NDArray[np.intp], cluster: NDArray[np.intp]) -> NDArray[np.float64]:
    """The sum of outer products from a table of sums, clusters x p."""
    table = _sums(_sparse(scores), row, cluster, int(cluster.max(initial=-1)) + 1, scores.shape[1])
    return table.T @ table


def _sums(
    parts: list[tuple[NDArray[np.intp], NDArray[np.float64]]],
    row: NDArray[np.intp],
    cluster: NDArray[np.intp],
    size: int,
    p: int,
) -> NDArray[np.float64]:
    """Each cluster's scores, summed: (size, p)."""
    sums = np.zeros(size * p)
    for place, value in parts:
        sums += np.bincount(cluster * p + place[row], value[row], size * p)
    return sums.reshape(size, p)


def _paired(scores: NDArray[np.float64], row: NDArray[np.intp], same: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The same from the pairs of verdicts in a cluster, where they are few. `same`: (n,) the next is of its cluster."""
    p, parts = scores.shape[1], _sparse(scores)
    total = (scores * np.bincount(row, minlength=len(scores))[:, None]).T @ scores  # every verdict with itself
    first, apart = np.flatnonzero(same), 1
    while len(first):
        one, other = row[first], row[first + apart]
        for place, value in parts:
            start, factor = place[one] * p, value[one]
            for also, worth in parts:
                products = np.bincount(start + also[other], factor * worth[other], p * p).reshape(p, p)
                total += products + products.T
        first = first[same[first + apart]]
        apart += 1
    return total


def _sparse(scores: NDArray[np.float64]) -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Column and value, (r,) each, of the first number in each row that is not zero, of the second, and so on."""
    wide = max(int(np.count_nonzero(scores, axis=1).max(initial=0)), 1)
    place = np.argsort(scores == 0, axis=1, kind="stable")[:, :wide]
    value = np.take_along_axis(scores, place, 1)
    return [(np.ascontiguousarray(a), np.ascontiguousarray(b)) for a, b in zip(place.T, value.T)]
