"""Verdicts counted in many groups at once, a part of them at a time.

What a group needs of its verdicts are its counts (good, same, bad) and how they vary between prompts and between
annotators. So a tally keeps a few sums for each group, and the counts of each of its annotators: its memory grows with
groups x annotators, not with verdicts. Every part has all verdicts of the prompts that are in it, so what a prompt, or
a prompt and an annotator, adds to the variance is known when the part has been counted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palate.stats.estimate import TwoWay, corrected, distinct

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]
_LARGEST = 2**62  # that a key of combined columns may be
_PEOPLE = 32  # bits of an annotator's number
_GROUP = np.dtype(
    [
        ("n", int),
        ("totals", float, 3),
        ("centre", float, 3),  # the shares in the group's first part: sums about them are small, and nothing cancels
        ("by_prompt", float, (4, 4)),
        ("by_both", float, (4, 4)),
        ("prompts", int),
        ("both", int),
        ("unknown", int),  # prompts with a verdict of nobody knows whom
        ("prompt_means", float),
        ("crossed", float),
    ]
)


@dataclass(frozen=True)
class Moments:
    """Sums of squares of verdicts 1, 0 and -1, (4,): of all, of the mean, of prompts' and of annotators' means.

    `expected` (4, 4): what they are expected to be, as multiples of the squared net and of the variances between
    prompts, between annotators, and of the rest (Henderson 1953, method 1).
    """

    squares: Floats
    expected: Floats


@dataclass(frozen=True)
class Counts:
    """Verdicts that have been counted.

    Attributes:
        rule: how several people's verdicts on one comparison become counts.
        n: verdicts, or majorities.
        totals: (3,) good, same and bad, weighted.
        sampling: how the totals vary between prompts and annotators.
        moments: None where the annotators are unknown or the verdicts are not pooled.
    """

    rule: str
    n: int
    totals: Floats
    sampling: TwoWay
    moments: Moments | None

    @property
    def swapped(self) -> "Counts":
        """The same verdicts from the other side."""
        return Counts(self.rule, self.n, self.totals[::-1], self.sampling.reversed, self.moments)


class Groups:
    """Groups are combinations of whole numbers, and are numbered as they come."""

    def __init__(self) -> None:
        self.number: dict[tuple[int, ...], int] = {}

    def of(self, *columns: NDArray[np.integer | np.bool_]) -> NDArray[np.intp]:
        """The groups (n,) of the combinations in columns (n,), whose values may be below zero."""
        key, span = np.zeros(len(columns[0]), np.int64), 1
        for column in columns:
            values = column.astype(np.int64)
            least = int(values.min(initial=0))
            width = int(values.max(initial=0)) - least + 1
            if span * width > _LARGEST:
                (_, key), (_, values) = distinct(key), distinct(values)
                least, span, width = 0, int(key.max(initial=0)) + 1, int(values.max(initial=0)) + 1
            key, span = key * width + (values - least), span * width
        _, inverse = distinct(key)
        first = np.empty(int(inverse.max(initial=-1)) + 1, np.intp)
        first[inverse] = np.arange(len(key))
        found = [
            self.number.setdefault(key, len(self.number)) for key in zip(*(one[first].tolist() for one in columns))
        ]
        return np.array(found, np.intp)[inverse]


class Tally:
    """Counts of groups, which are numbered from zero."""

    def __init__(self) -> None:
        self._groups = np.zeros(0, _GROUP)
        self._annotator, self._by_annotator = np.zeros(0, np.int64), np.zeros((0, 4))

    def add(
        self, group: Ints, outcome: Ints, prompt: Ints, annotator: Ints | None = None, weight: Floats | None = None
    ) -> None:
        """A part of the verdicts, columns (n,).

        Args:
            outcome: 1 good, 0 same, -1 bad.
            prompt: numbers >= 0; the part has all the verdicts of each.
            annotator: numbers >= 0, or -1 where unknown; None: all of them are.
            weight: what each verdict counts; None: one.
        """
        if not len(group):
            return
        kept = self._groups = np.append(
            self._groups, np.zeros(max(int(group.max()) + 1 - len(self._groups), 0), _GROUP)
        )
        size = len(kept)
        person = np.zeros_like(group) if annotator is None else annotator + 1
        prompts, people = int(prompt.max()) + 1, int(person.max()) + 1
        key, cell_of = distinct((group.astype(np.int64) * prompts + prompt) * people + person)
        cells = np.bincount(cell_of * 3 + 1 - outcome, weight, 3 * len(key)).reshape(-1, 3).astype(float)
        key = key.astype(np.int64)
        cell_group, cell_person = key // (prompts * people), key % people
        first = np.flatnonzero(np.diff(key // people, prepend=-1))  # of each prompt's cells
        clusters, cluster_group = np.add.reduceat(cells, first), cell_group[first]
        totals = _sums(cell_group, cells, size)
        new = (kept["n"] == 0) & (totals.sum(1) > 0)
        kept["centre"][new] = totals[new] / totals[new].sum(1, keepdims=True)
        kept["n"] += np.bincount(group, minlength=size)
        kept["totals"] += totals
        kept["by_prompt"] += _grams(cluster_group, clusters, kept["centre"])
        kept["by_both"] += _grams(cell_group, cells, kept["centre"])
        kept["prompts"] += np.bincount(cluster_group, minlength=size)
        kept["both"] += np.bincount(cell_group, minlength=size)
        kept["unknown"] += np.bincount(cell_group[cell_person == 0], minlength=size)
        squares, sizes = cells.sum(1) ** 2, clusters.sum(1)
        kept["prompt_means"] += np.bincount(cluster_group, (clusters[:, 0] - clusters[:, 2]) ** 2 / sizes, size)
        kept["crossed"] += np.bincount(cluster_group, np.add.reduceat(squares, first) / sizes, size)
        whose, of = distinct(np.concatenate([self._annotator, cell_group << _PEOPLE | cell_person]))
        added = np.concatenate([self._by_annotator, np.column_stack([cells, squares])])
        self._annotator, self._by_annotator = whose, _sums(of, added, len(whose))

    def holds(self, group: int) -> bool:
        """Whether anything has been counted in a group."""
        return group < len(self._groups) and bool(self._groups[group]["n"])

    def counts(self, group: int, rule: str = "pooled", absent: str = "unknown") -> Counts:
        """What has been counted in a group. `absent` says why there are no annotators, where there are none."""
        kept = self._groups[group]
        n, totals, n_prompts = int(kept["n"]), kept["totals"], int(kept["prompts"])
        shares = totals / totals.sum()
        shift = shares - kept["centre"]

        def centred(gram: Floats) -> Floats:
            """The sum of (counts - size x shares) (...)^T over clusters, from that about the centre."""
            cross = np.outer(gram[:3, 3], shift)
            return gram[:3, :3] - cross - cross.T + gram[3, 3] * np.outer(shift, shift)

        by_prompt = corrected(centred(kept["by_prompt"]), n_prompts)
        if kept["unknown"]:
            nothing = np.zeros_like(by_prompt)
            return Counts(rule, n, totals, TwoWay(by_prompt, nothing, nothing, n_prompts, None, absent), None)
        own = self._by_annotator[slice(*np.searchsorted(self._annotator, [group << _PEOPLE, (group + 1) << _PEOPLE]))]
        away = own[:, :3] - own[:, :3].sum(1, keepdims=True) * shares
        by_annotator, by_both = (
            corrected(away.T @ away, len(own)),
            corrected(centred(kept["by_both"]), int(kept["both"])),
        )
        sampling = TwoWay(by_prompt, by_annotator, by_both, n_prompts, len(own))
        return Counts(rule, n, totals, sampling, _moments(kept, own) if rule == "pooled" else None)


def _moments(kept: NDArray[np.void], own: Floats) -> Moments:
    """`own` (annotators, 4): good, same, bad, and the squared number of verdicts on each prompt, summed."""
    good, _, bad = kept["totals"]
    n, sizes = float(kept["n"]), own[:, :3].sum(1)
    lead = good - bad
    squares = [good + bad, lead**2 / n, kept["prompt_means"], ((own[:, 0] - own[:, 2]) ** 2 / sizes).sum()]
    expected = [
        [n, n, n, n],
        [n, kept["by_prompt"][3, 3] / n, (sizes**2).sum() / n, 1],
        [n, n, kept["crossed"], kept["prompts"]],
        [n, (own[:, 3] / sizes).sum(), n, len(own)],
    ]
    return Moments(np.array(squares), np.array(expected))


def _sums(group: Ints, rows: Floats, size: int) -> Floats:
    """The rows (n, p) of each group, summed: (size, p)."""
    return np.stack([np.bincount(group, column, size) for column in rows.T], axis=1).astype(float)


def _grams(group: Ints, counts: Floats, centre: Floats) -> Floats:
    """The sum over a group's rows (n, 3) of u u^T, u their distance from |n| centre, and |n|: (groups, 4, 4)."""
    sizes = counts.sum(1)
    columns = [*(counts - sizes[:, None] * centre[group]).T, sizes]
    found = np.empty((len(centre), 4, 4))
    for i, one in enumerate(columns):
        for j, other in enumerate(columns[: i + 1]):
            found[:, i, j] = found[:, j, i] = np.bincount(group, one * other, len(centre))
    return found
