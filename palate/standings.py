"""The standing of each system among all on an axis, from its votes against every other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palate.digest import Digests
from palate.errors import DataError
from palate.gsb import Basis, Words, basis, compares
from palate.records import Estimate, Side
from palate.spool import Spool
from palate.stats import rating, wins
from palate.stats.rating import SIDE
from palate.stats.tally import Groups, Tally
from palate.stats.ties import Ties
from palate.stats.wins import Form
from palate.votes import Votes

Style = Mapping[str, Mapping[str, float]]  # name -> comparison id -> a difference of its two samples
_ALL = -1  # in place of a system: all of them


@dataclass(frozen=True, eq=False)  # one object an axis, which its standings share
class Effect:
    """Log-odds that something other than a system adds on an axis, such as standing on the left."""

    basis: Basis
    name: str
    estimate: Estimate


@dataclass(frozen=True)
class Standing:
    """One system among all on an axis: Elo-scaled strength, rank intervals, and G / (G + B) over all opponents.

    `rank` is right for one system with the level's probability, `rank_at_once` for all of the axis together;
    `arena_rank` is LMArena's "Rank (UB)". `effects`, of the axis, were taken out of the strengths.
    """

    basis: Basis
    system: str
    elo: Estimate
    rank: tuple[int, int]
    rank_at_once: tuple[int, int]
    arena_rank: int | None
    win_rate: Estimate
    effects: tuple[Effect, ...]


def standings(
    votes: Votes, ties: Ties = "davidson", side: bool = False, raters: bool = False, style: Style | None = None
) -> tuple[list[Standing], list[str]]:
    """The `Standings` of votes that are in memory."""
    counted = Standings(ties, side, raters, style)
    counted.add(votes)
    return counted.found()


class Standings:
    """Ratings of all systems on every axis, people's and simulated votes apart.

    An interval needs a second look at the votes, when the ratings are known; until then twelve bytes of each are kept
    in a temporary file.

    Args:
        ties: the model of ties.
        side: whether the advantage of one side of the screen is estimated, and taken out of the ratings.
        raters: the same, of each annotator apart.
        style: differences that are taken out too; to two digits, so that verdicts of equal style are counted together.
    """

    def __init__(
        self, ties: Ties = "davidson", side: bool = False, raters: bool = False, style: Style | None = None
    ) -> None:
        self._ties: Ties = ties
        self._side, self._raters, self._style = side, raters, style or {}
        self._words, self._axes, self._groups, self._pairs, self._cells = (Words(), *(Groups() for _ in range(4)))
        self._tally, self._digests, self._spool = Tally(), Digests(), Spool()
        self._counts = np.zeros(0, int)  # of 3 x cell + kind
        self._cases = 0

    def add(self, votes: Votes) -> None:
        """A part of the votes, with every vote of each of its cases."""
        votes = votes.select(compares(votes))
        if not len(votes):
            return
        said = self._words.read(votes)
        axis = self._axes.of(said.axis, votes.simulated)
        views = (
            (said.candidate, said.outcome),
            (said.baseline, -said.outcome),
            (np.full_like(axis, _ALL), said.outcome),
        )
        group = np.concatenate([self._groups.of(axis, system) for system, _ in views])
        outcome = np.concatenate([outcome for _, outcome in views])
        self._tally.add(group, outcome, np.tile(said.case, 3), np.tile(said.annotator, 3))
        self._digests.add(self._pairs.of(axis, said.candidate, said.baseline), votes.judgement)
        left = (votes.candidate_side == Side.LEFT) * 1 - (votes.candidate_side == Side.RIGHT)
        own = self._words.annotator.of(votes.annotator)
        cell = self._cells.of(
            axis,
            said.candidate,
            said.baseline,
            left if self._side or self._raters else np.zeros_like(left),
            own if self._raters else np.zeros_like(own),
            *(_hundredths(differences, votes) for differences in self._style.values()),
        )
        row = 3 * cell + 1 - said.outcome
        counts = np.bincount(row, minlength=3 * len(self._cells.number))
        counts[: len(self._counts)] += self._counts
        self._counts = counts
        looked = np.stack([row, self._cases + said.case, said.annotator]).astype(np.int32)
        self._cases += int(said.case.max()) + 1
        for one in np.unique(axis).tolist():
            self._spool.append(one, looked[:, axis == one])

    def found(self) -> tuple[list[Standing], list[str]]:
        """The standings of all parts, best first, and why there are none, for the axes that have none. Call it once."""
        names, found, missing = self._words.axis.names, list[Standing](), list[str]()
        told = sorted((names[axis], bool(simulated), number) for (axis, simulated), number in self._axes.number.items())
        for axis, simulated, number in told:
            try:
                found += self._axis(axis, simulated, number)
            except DataError as error:
                missing.append(f"{axis}{' SIMULATED' if simulated else ''}: no ratings, {error}")
        self._spool.close()
        return found, missing

    def _axis(self, axis: str, simulated: bool, number: int) -> Iterator[Standing]:
        met = {key[1:]: pair for key, pair in self._pairs.number.items() if key[0] == number}
        names = dict(sorted((self._words.system.names[one], one) for one in {one for pair in met for one in pair}))
        keys, cells = zip(*((key, cell) for key, cell in self._cells.number.items() if key[0] == number))
        _, candidate, baseline, left, own, *style = np.array(keys).T
        effects = {SIDE: left} if self._side and not self._raters else {}
        if self._raters:
            people = sorted((self._words.annotator.names[one], one) for one in set(own.tolist()))
            effects = {f"{SIDE}, for {name}": (own == one) * left for name, one in people}
        effects |= {name: _differences(column) for name, column in zip(self._style, style)}
        place = np.zeros(len(self._words.system), int)
        place[list(names.values())] = np.arange(len(names))
        counts = self._counts.reshape(-1, 3)[list(cells)].T
        told = rating.cells(place[candidate], place[baseline], effects, counts, list(names))
        every = self._tally.counts(self._groups.number[number, _ALL])
        annotators = None if every.sampling.n_annotators is None else len(self._words.annotator)
        parts = self._looks(number, np.array(cells), annotators is not None)
        fitted = rating.fit_cells(told, parts, annotators, self._ties)
        whole = basis(axis, simulated, every, self._digests.digest(met.values()))
        taken = tuple(Effect(whole, name, estimate) for name, estimate in fitted.effects.items())
        elo, arena_ranks, listed = fitted.elo, fitted.arena_ranks, list(names.items())
        pairs: dict[int, list[int]] = {system: [] for system in names.values()}
        for (one, other), pair in met.items():
            pairs[one].append(pair)
            pairs[other].append(pair)
        for at in fitted.order:
            name, system = listed[at]
            counts = self._tally.counts(self._groups.number[number, system])
            yield Standing(
                basis=basis(axis, simulated, counts, self._digests.digest(pairs[system])),
                system=name,
                elo=elo[at],
                rank=fitted.ranks[at],
                rank_at_once=fitted.ranks_at_once[at],
                arena_rank=arena_ranks[at],
                win_rate=wins.analytic(counts, Form.WIN_RATE),
                effects=taken,
            )

    def _looks(self, number: int, cells: NDArray[np.int_], known: bool) -> Iterator[rating.Part]:
        """The votes of an axis again, with its own cells numbered from zero."""
        place = np.zeros(len(self._cells.number), int)
        place[cells] = np.arange(len(cells))
        for look in self._spool.parts(number):
            row, case, annotator = look.astype(np.intp)
            yield row % 3 * len(cells) + place[row // 3], case - case.min(), annotator if known else None


_UNKNOWN = np.iinfo(np.int64).min


def _hundredths(differences: Mapping[str, float], votes: Votes) -> NDArray[np.int64]:
    named = [differences.get(id, np.nan) for id in votes.comparison.names.tolist()]
    return np.where(np.isnan(named), _UNKNOWN, np.rint(np.nan_to_num(named) * 100)).astype(np.int64)[
        votes.comparison.codes
    ]


def _differences(hundredths: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(hundredths == _UNKNOWN, np.nan, hundredths / 100)
