"""How well an automatic metric agrees with people, with intervals over prompts.

Pairs: `label` is what people said of a pair, 1 the first is better, 0 the same, -1 the second; `margin` is the metric's
score of the first less that of the second, nan where it has none. Samples: a metric's and people's score of each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from palate.errors import DataError
from palate.records import Estimate
from palate.stats.estimate import TwoWay, codes, two_way, unseen
from palate.stats.wins import checked

Floats = NDArray[np.float64]
GROUPS = 500  # the most fits of a jackknife


def accuracy(
    label: ArrayLike, margin: ArrayLike, prompt: ArrayLike, level: float = 0.95, equal: float = 0.0
) -> Estimate:
    """The share of pairs that the metric orders as people do, among those people order.

    (C + equal T) / (C + D + T) of the concordant, discordant and metric-tied pairs. A margin of zero is wrong in the
    published protocols; with `equal` 0.5, a guess between the two, 50% is chance however few values a metric has.
    Raises DataError where no pair is left.
    """
    label, margin, prompt, note = _scored(label, margin, prompt)
    kept = label != 0
    if not kept.any():
        raise DataError("people order no pair", "this needs pairs where one was preferred")
    right = np.where(margin[kept] == 0, equal, np.sign(margin[kept]) == label[kept])
    name = "pairwise accuracy without ties" + f", an equal score counts {equal:g}" * (equal != 0)
    return share(right, prompt[kept], name, note, level)


@dataclass(frozen=True)
class TiedAccuracy:
    """Accuracy over good, same and bad, where margins of at most a threshold are called the same.

    Attributes:
        accuracy: each pair judged with the threshold of the folds it is not in. Its interval takes the thresholds as
            given.
        thresholds: (folds,).
    """

    accuracy: Estimate
    thresholds: tuple[float, ...]


def tied_accuracy(
    label: ArrayLike, margin: ArrayLike, prompt: ArrayLike, folds: int = 5, seed: int = 0, level: float = 0.95
) -> TiedAccuracy:
    """Accuracy with ties (Deutsch et al. 2023, "Ties matter"), its threshold chosen on the other prompts.

    Departures: the paper, and VideoAlign after it, choose the threshold on the very pairs they report, which favours
    the metric; VideoAlign's code also draws it between equal margins, which no threshold can.

    Raises:
        DataError: fewer prompts than folds, or no pair with a score.
    """
    label, margin, prompt, note = _scored(label, margin, prompt)
    cluster, prompts = codes(prompt)
    if not 2 <= folds <= prompts:
        raise DataError(f"{folds} folds of {prompts} prompts", "use at least two, and no more than prompts")
    fold = (np.random.default_rng(seed).permutation(prompts) % folds)[cluster]
    thresholds = tuple(best_threshold(label[fold != one], margin[fold != one]) for one in range(folds))
    called = np.where(np.abs(margin) > np.array(thresholds)[fold], np.sign(margin), 0)
    name = f"accuracy with ties, threshold from the other {folds - 1} of {folds} folds of prompts"
    return TiedAccuracy(share(called == label, prompt, name, note, level), thresholds)


def best_threshold(label: ArrayLike, margin: ArrayLike) -> float:
    """The least threshold >= 0 of the best three-way accuracy: zero, or the size of a margin."""
    label, margin = np.asarray(label), np.asarray(margin, float)
    size = np.abs(margin)
    levels, block = np.unique(np.append(size, 0.0), return_inverse=True)
    # Raising the threshold past a block of equal margins loses its rightly ordered pairs and wins its ties.
    gain = np.bincount(block[:-1], (label == 0) * 1.0 - (label == np.sign(margin)) * (label != 0), len(levels))
    return float(levels[np.argmax(np.cumsum(gain))])


def kendall(metric: ArrayLike, people: ArrayLike, prompt: ArrayLike, level: float = 0.95) -> Estimate:
    """Kendall's tau-b over samples (n,), with a jackknife interval over prompts. Raises as `spearman` does."""
    return _correlation(
        "Kendall tau-b", lambda x, y: float(np.array(stats.kendalltau(x, y))[0]), metric, people, prompt, level
    )


def spearman(metric: ArrayLike, people: ArrayLike, prompt: ArrayLike, level: float = 0.95) -> Estimate:
    """Spearman's rho over samples (n,), with a jackknife interval over prompts.

    Raises DataError where a side does not vary, or fewer than three prompts have scores.
    """
    return _correlation(
        "Spearman", lambda x, y: float(np.array(stats.spearmanr(x, y))[0]), metric, people, prompt, level
    )


def _scored(
    label: ArrayLike, margin: ArrayLike, prompt: ArrayLike
) -> tuple[NDArray[np.int_], Floats, NDArray[np.generic], str]:
    """The pairs the metric has a score for, and how many it has none for."""
    label, margin, prompt = checked(label), np.asarray(margin, float), np.asarray(prompt)
    known = ~np.isnan(margin)
    if not known.any():
        raise DataError("the metric scored no pair", "score the samples first")
    missing = int((~known).sum())
    return label[known], margin[known], prompt[known], f"{missing} pairs without a score are left out" * (missing > 0)


def share(
    right: NDArray[np.bool_] | Floats, prompt: NDArray[np.generic], name: str, note: str = "", level: float = 0.95
) -> Estimate:
    """The mean of `right`, (n,) from 0 to 1, over prompts as clusters; of all or none with the exact binomial bound.

    Raises DataError where there is nothing to count.
    """
    if not len(right):
        raise DataError(f"nothing to count for {name}", "this needs at least one pair")
    share = float(right.mean())
    spread = two_way((right - share)[:, None] / len(right), prompt, None, absent="taken together")
    if share in (0, 1):
        bound = unseen(spread.n_prompts, level)
        low, high = (0.0, bound) if share == 0 else (1 - bound, 1.0)
        return _estimate(
            share, low, high, len(right), spread, f"{name}, exact binomial bound over prompts", note, level
        )
    name = f"{name}, {spread.method}"
    deviation = spread.deviation(np.ones(1))
    if deviation is None:
        note = "; ".join(filter(None, (note, "no interval: nothing varies between prompts")))
        return _estimate(share, None, None, len(right), spread, name, note, level)
    # On the logit scale, whose interval stays within (0, 1).
    centre, half = np.log(share / (1 - share)), spread.quantile(level) * deviation / (share * (1 - share))
    low, high = 1 / (1 + np.exp(-(centre - half))), 1 / (1 + np.exp(-(centre + half)))
    return _estimate(share, float(low), float(high), len(right), spread, name, note, level)


def _estimate(
    value: float, low: float | None, high: float | None, n: int, spread: TwoWay, method: str, note: str, level: float
) -> Estimate:
    return Estimate(
        value=value, low=low, high=high, n=n, level=level, method=method, clusters=spread.clusters, note=note
    )


def _correlation(
    name: str,
    statistic: Callable[[Floats, Floats], float],
    metric: ArrayLike,
    people: ArrayLike,
    prompt: ArrayLike,
    level: float,
) -> Estimate:
    x, y = np.asarray(metric, float), np.asarray(people, float)
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    cluster, prompts = codes(np.asarray(prompt)[known])
    if prompts < 3:
        raise DataError(f"{prompts} prompts with scores", "an interval over prompts needs three")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise DataError("all scores of one side are equal", "there is nothing to correlate")
    value = float(statistic(x, y))
    groups = min(prompts, GROUPS)
    group = (np.random.default_rng(0).permutation(prompts) % groups)[cluster]
    # Fisher's scale, on which the distribution hardly depends on the correlation
    left_out = np.array([statistic(x[group != one], y[group != one]) for one in range(groups)])
    lost = int((~known).sum())
    note = f"{lost} samples without a score are left out" * (lost > 0)
    low = high = None
    if (np.abs([*left_out, value]) < 1 - 1e-12).all():
        half = stats.t.ppf((1 + level) / 2, groups - 1) * np.sqrt((groups - 1) * np.arctanh(left_out).var())
        low, high = (float(one) for one in np.tanh(np.arctanh(value) + half * np.array([-1, 1])))
    else:
        note = "; ".join(filter(None, (note, "no interval: it is perfect, or undefined, without some prompts")))
    method, clusters = f"{name}, jackknife over prompts", {"prompts": prompts}
    return Estimate(value=value, low=low, high=high, n=len(x), level=level, method=method, clusters=clusters, note=note)
