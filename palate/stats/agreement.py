"""How far people agree beyond chance, from a table of counts: (units, categories), votes a unit got in each category.

A unit with fewer than two votes says nothing about agreement and is left out.
"""

from collections.abc import Callable
from typing import Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palate.errors import DataError
from palate.records import Estimate
from palate.stats.estimate import codes, percentiles

Metric = Literal["nominal", "ordinal", "interval"]
Floats = NDArray[np.float64]


def count_table(unit: ArrayLike, category: ArrayLike, categories: int) -> NDArray[np.int_]:
    """Votes (n,) of category codes 0..categories-1 about labelled units, as counts (units, categories)."""
    rows, size = codes(unit)
    cells = np.bincount(rows * categories + np.asarray(category, dtype=int), minlength=size * categories)
    return cells.reshape(size, categories)


def alpha(
    counts: ArrayLike,
    metric: Metric,
    values: ArrayLike | None = None,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    repeats: ArrayLike = 1,
) -> Estimate:
    """Krippendorff's alpha, with an expanded percentile interval from a bootstrap over units.

    Source: Krippendorff (2019), Content Analysis, ch. 12: alpha = 1 - observed / expected disagreement, from the
    coincidence matrix. Categories are in order for "ordinal"; "interval" needs their `values` (categories,). `repeats`
    (units,) says how many units there are of each row.

    Raises:
        DataError: no unit has two votes, or "interval" without values.
    """
    if metric == "interval" and values is None:
        raise DataError("the interval metric without the categories' values", "give them, or use ordinal")
    scale = np.zeros(0) if values is None else np.asarray(values, dtype=float)
    name = f"Krippendorff {metric}"
    return _bootstrapped(counts, repeats, lambda o: _alpha(o, metric, scale), name, level, replicates, seed)


def agreement(
    counts: ArrayLike, level: float = 0.95, replicates: int = 2000, seed: int = 0, repeats: ArrayLike = 1
) -> Estimate:
    """The share of agreeing pairs of votes, each vote weighing the same, with a bootstrap interval over units.

    `repeats` as for `alpha`. Raises DataError where no unit has two votes.
    """

    def diagonal(o: Floats) -> Floats:
        return np.trace(o, axis1=-2, axis2=-1) / o.sum((-2, -1))

    return _bootstrapped(counts, repeats, diagonal, "percent agreement", level, replicates, seed)


def _bootstrapped(
    counts: ArrayLike,
    repeats: ArrayLike,
    statistic: Callable[[Floats], Floats],
    name: str,
    level: float,
    replicates: int,
    seed: int,
) -> Estimate:
    """`statistic` maps coincidence matrices (..., K, K) to numbers (...), nan where it is undefined."""
    table = np.asarray(counts)
    shared = table.sum(1) >= 2
    table, times = table[shared], np.broadcast_to(repeats, len(table))[shared]
    units = int(times.sum())
    if not units:
        raise DataError("no unit has two votes", "ask two or more people about the same comparison")
    # Units with the same counts are alike, so a bootstrap draws how many of each pattern it gets: a million units cost
    # as little as their few dozen patterns.
    _, first, pattern = np.unique(_pattern(table), return_index=True, return_inverse=True)
    patterns, repeats = table[first], np.bincount(pattern, times)
    coincidences = _coincidences(patterns)
    value = float(statistic(np.tensordot(repeats, coincidences, axes=1)))
    draws = np.random.default_rng(seed).multinomial(units, repeats / units, size=replicates)
    replicas = statistic(np.tensordot(draws, coincidences, axes=1))
    undefined = int(np.isnan(replicas).sum())
    known = not np.isnan(value)
    low, high = percentiles(np.asarray(replicas), units, level) if known and units > 1 else (None, None)
    note = f"undefined in {undefined} of {replicates} replicates" if undefined else ""
    note = "no interval: one unit has nothing to be drawn beside" if units == 1 else note
    return Estimate(
        value=value if known else None,
        low=low,
        high=high,
        n=int(repeats @ patterns.sum(1)),
        level=level,
        method=f"{name}, bootstrap over units",
        clusters={"units": units},
        note=note if known else "every vote is in one category: there is nothing to disagree about",
    )


def _pattern(table: NDArray[np.int_]) -> NDArray[np.int_]:
    """A number (units,) for each row of counts (units, categories), the same for the same rows."""
    number = np.zeros(len(table), dtype=int)
    for column in table.T:
        number = codes(number)[0] * (column.max() + 1) + column
    return number


def _coincidences(counts: NDArray[np.int_]) -> Floats:
    """Ordered pairs of votes within each unit, each vote weighing one: (units, categories, categories)."""
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(counts.shape[1], dtype=int)
    return pairs / (counts.sum(1) - 1)[:, None, None]


def _alpha(coincidences: Floats, metric: Metric, values: Floats) -> Floats:
    """Alpha (...) of coincidence matrices (..., K, K); nan where all votes are in one category."""
    margins = coincidences.sum(-1)
    votes = margins.sum(-1)
    distance = _distance(margins, metric, values)
    expected = np.einsum("...c,...k,...ck->...", margins, margins, distance)
    observed = (coincidences * distance).sum((-2, -1))
    with np.errstate(invalid="ignore"):
        return cast("Floats", 1 - (votes - 1) * observed / expected)


def _distance(margins: Floats, metric: Metric, values: Floats) -> Floats:
    """Squared differences between categories (..., K, K)."""
    if metric == "nominal":
        return 1 - np.eye(margins.shape[-1])
    if metric == "interval":
        return (values[:, None] - values[None, :]) ** 2
    # Ordinal: votes from one category up to the other, counting half of both ends, which is the distance of mid-ranks.
    middle = np.cumsum(margins, axis=-1) - margins / 2
    return (middle[..., :, None] - middle[..., None, :]) ** 2
