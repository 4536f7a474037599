"""How far people agree with each other."""

from dataclasses import dataclass

import numpy as np

from palate.digest import Digests
from palate.gsb import Basis, Words, basis
from palate.records import Estimate
from palate.stats import agreement
from palate.stats.tally import Groups, Tally
from palate.votes import Votes


@dataclass(frozen=True)
class Accord:
    """How far people agree on an axis. `comparisons` counts those with more than one vote."""

    basis: Basis
    comparisons: int
    nominal: Estimate
    ordinal: Estimate
    share: Estimate


def accords(votes: Votes) -> list[Accord]:
    """The `Accords` of votes that are in memory."""
    counted = Accords()
    counted.add(votes)
    return counted.found()


class Accords:
    """Agreement on every axis that has a comparison with two votes or more, over all pairs of systems."""

    def __init__(self) -> None:
        self._words, self._axes, self._tables = Words(), Groups(), Groups()
        self._tally, self._digests = Tally(), Digests()
        self._comparisons = np.zeros(0, int)  # that got each table of votes

    def add(self, votes: Votes) -> None:
        """A part of the votes, with every vote of each of its cases."""
        votes = votes.select(votes.role == "normal")
        if not len(votes):
            return
        said = self._words.read(votes)
        axis = self._axes.of(said.axis, votes.simulated)
        self._tally.add(axis, said.outcome, said.case, said.annotator)
        self._digests.add(axis, votes.judgement)
        unit, first = np.unique(axis * len(votes.comparison.names) + votes.comparison.codes, return_inverse=True)
        counts = agreement.count_table(first, said.outcome + 1, 3)
        table = self._tables.of(unit // len(votes.comparison.names), *counts.T)
        comparisons = np.bincount(table, minlength=len(self._tables.number))
        comparisons[: len(self._comparisons)] += self._comparisons
        self._comparisons = comparisons

    def found(self) -> list[Accord]:
        """The agreement in all parts."""
        names, found = self._words.axis.names, list[Accord]()
        for axis, simulated, number in sorted(
            (names[a], bool(s), number) for (a, s), number in self._axes.number.items()
        ):
            tables = {key[1:]: at for key, at in self._tables.number.items() if key[0] == number and sum(key[1:]) > 1}
            if not tables:
                continue
            counts, repeats = np.array(list(tables)), self._comparisons[list(tables.values())]
            found.append(
                Accord(
                    basis=basis(axis, simulated, self._tally.counts(number), self._digests.digest([number])),
                    comparisons=int(repeats.sum()),
                    nominal=agreement.alpha(counts, "nominal", repeats=repeats),
                    ordinal=agreement.alpha(counts, "ordinal", repeats=repeats),
                    share=agreement.agreement(counts, repeats=repeats),
                )
            )
        return found
