"""What a reward is: prompts and videos in, numbers out, each with its unit, or the reason why there is none.

Several become one by gates and weights. Numbers of different units are never added: they are first put in standard
deviations, either of a calibration set (`standardised`, for a number that must mean the same in every batch) or of each
prompt's own samples (`advantages`, as GDPO does). A value that is missing stays missing through all of this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray

from palate.config import Settings
from palate.errors import ConfigError, DataError
from palate.records import Score

Values = Float[NDArray[np.float64], " items"]
Known = Bool[NDArray[np.bool_], " items"]
Groups = Int[NDArray[np.integer], " items"]


class Unit(StrEnum):
    """What a difference of one means."""

    LOGITS = "logits"  # log odds of being preferred
    DEVIATIONS = "standard deviations"  # of the set that it was put in proportion to
    SHARE = "share"  # 0 to 1
    COSINE = "cosine"  # -1 to 1
    STARS = "stars"  # of a scale that people rate on
    GREY = "grey levels"  # 0 to 255
    PIXELS = "pixels a frame"
    BITS = "bits a pixel"


@dataclass(frozen=True)
class Answer:
    """A prompt and the video that answers it. The rate is part of the question: half of it is slow motion."""

    prompt: str
    frames: UInt8[NDArray[np.uint8], "frames height width 3"]
    fps: float


@dataclass(frozen=True)
class Scored:
    """One number for each item of a batch.

    Attributes:
        name: of what was measured, such as "shapes.motion"; the scorer of stored scores.
        unit: of the values.
        value: (items,); nan where there is none, so that nobody can average it unawares.
        reasons: (items,) why there is no value; "" where there is one.
    """

    name: str
    unit: Unit
    value: Values
    reasons: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.reasons) != len(self.value):
            raise DataError(
                f"{self.name} has {len(self.value)} values and {len(self.reasons)} reasons", "give one each"
            )
        if any((reason == "") != finite for reason, finite in zip(self.reasons, np.isfinite(self.value))):
            raise DataError(
                f"{self.name} has a value with a reason against it, or neither", "give a finite value or a reason"
            )

    @classmethod
    def of(cls, name: str, unit: Unit, answers: Sequence[float | str]) -> "Scored":
        """From numbers and reasons, such as [0.5, "no face in it"]. A number that is not finite becomes a reason."""
        value = np.array([np.nan if isinstance(one, str) else one for one in answers], float)
        reasons = tuple(
            one if isinstance(one, str) else "" if np.isfinite(one) else f"it came out as {one}" for one in answers
        )
        return cls(name, unit, np.where(np.isfinite(value), value, np.nan), reasons)

    @property
    def known(self) -> Known:
        """(items,) the mask: where there is a value."""
        return np.isfinite(self.value)

    def scores(self, samples: Sequence[str]) -> list[Score]:
        """As rows of the record, for the samples that the items are."""
        return [
            Score(sample=sample, scorer=self.name, value=float(value), unit=self.unit)
            if not reason
            else Score(sample=sample, scorer=self.name, failure=reason)
            for sample, value, reason in zip(samples, self.value, self.reasons, strict=True)
        ]


class Reward(Protocol):
    """Gives one column of numbers for each thing that it measures, in the order of the answers.

    What goes wrong with one item is its reason; only what spoils the whole batch is raised.
    """

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]: ...


class Term(Settings):
    """One column's part in a sum.

    Attributes:
        weight: of the column, in the unit that is summed.
        least: the smallest standard deviation among a prompt's samples that counts as a difference, in the column's own
            unit. Without it a group of near-equals would be blown up to the size of a true difference.
        gate: the column that has to be at least `at_least`, in its unit, for this one to count ...
        at_least: ... and
        otherwise: what this column is worth where it does not, in its own unit.
    """

    weight: float = 1.0
    least: float = 1e-3
    gate: str = ""
    at_least: float = 0.0
    otherwise: float = 0.0


def gated(columns: Sequence[Scored], terms: Mapping[str, Term]) -> tuple[Scored, ...]:
    """The columns that `terms` names, in their order, each behind its gate. Unknown gate, unknown value.

    Raises ConfigError for a term or a gate that no column answers.
    """
    by_name = {column.name: column for column in columns}
    wanted = [*terms, *(term.gate for term in terms.values() if term.gate)]
    if missing := [name for name in wanted if name not in by_name]:
        raise ConfigError(f"no reward measures {missing[0]!r}", f"name one of {', '.join(by_name)}")
    return tuple(_gated(by_name[name], term, by_name.get(term.gate)) for name, term in terms.items())


def _gated(column: Scored, term: Term, gate: Scored | None) -> Scored:
    if gate is None:
        return column
    value = np.where(gate.value >= term.at_least, column.value, term.otherwise)
    reasons = _joined([column, gate])
    return Scored(column.name, column.unit, np.where([not one for one in reasons], value, np.nan), reasons)


def weighted(columns: Sequence[Scored], terms: Mapping[str, Term], name: str = "reward") -> Scored:
    """The weighted sum of gated columns of one unit; unknown where any of them is.

    Raises ConfigError where the units differ, or a column is missing.
    """
    parts = gated(columns, terms)
    units = {part.unit for part in parts}
    if len(units) != 1:
        told = ", ".join(f"{part.name} in {part.unit}" for part in parts)
        raise ConfigError(f"a sum of different units ({told})", "put each in standard deviations first")
    return Scored(name, units.pop(), _sum(parts, terms), _joined(parts))


def standardised(column: Scored, mean: float, deviation: float) -> Scored:
    """In standard deviations of a calibration set, whose mean and deviation are in the column's unit.

    Raises DataError for a column that is already in deviations: raw and normalised numbers are easily mixed up.
    """
    if column.unit is Unit.DEVIATIONS:
        raise DataError(f"{column.name} is in standard deviations already", "standardise it once")
    return Scored(column.name, Unit.DEVIATIONS, (column.value - mean) / deviation, column.reasons)


def advantages(columns: Sequence[Scored], terms: Mapping[str, Term], groups: Groups, name: str = "advantage") -> Scored:
    """The weighted sum of gated columns, each in standard deviations of its own group before it is added.

    GDPO (arXiv:2601.05242): normalising the sum instead would let the column of the largest spread decide alone. Where
    the deviation is under the term's `least`, that counts instead. Unknown values take no part in their group's mean,
    and an item with one has no advantage; nor has one whose group holds no second known value.

    Args:
        groups: (items,) integers, equal for samples of one prompt.
    """
    parts = [_within(part, groups, terms[part.name].least) for part in gated(columns, terms)]
    return Scored(name, Unit.DEVIATIONS, _sum(parts, terms), _joined(parts))


def _within(column: Scored, groups: Groups, least: float) -> Scored:
    _, group = np.unique(groups, return_inverse=True)
    known = column.known
    count = np.bincount(group[known], minlength=int(group.max(initial=-1)) + 1)
    at_least_one = np.maximum(count, 1)
    mean = np.bincount(group[known], column.value[known], len(count)) / at_least_one
    off = column.value - mean[group]
    deviation = np.sqrt(np.bincount(group[known], off[known] ** 2, len(count)) / at_least_one)
    alone = count[group] < 2
    reasons = tuple(
        reason or ("no other sample of its prompt has a value" if lonely else "")
        for reason, lonely in zip(column.reasons, alone)
    )
    value = np.where(alone, np.nan, off / np.maximum(deviation, least)[group])
    return Scored(column.name, Unit.DEVIATIONS, value, reasons)


def _sum(parts: Sequence[Scored], terms: Mapping[str, Term]) -> Values:
    return np.sum([terms[part.name].weight * part.value for part in parts], axis=0)


def _joined(columns: Sequence[Scored]) -> tuple[str, ...]:
    """Every reason against an item, with the name of the column that gives it."""
    return tuple(
        "; ".join(f"{column.name}: {reason}" for column, reason in zip(columns, row) if reason)
        for row in zip(*(column.reasons for column in columns))
    )


@dataclass(frozen=True)
class Composed:
    """Several rewards as one column: gates and weights over everything they measure, in one unit."""

    rewards: tuple[Reward, ...]
    terms: Mapping[str, Term]
    name: str = "reward"

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        return (weighted(columns_of(self.rewards, answers), self.terms, self.name),)


def columns_of(rewards: Sequence[Reward], answers: Sequence[Answer]) -> tuple[Scored, ...]:
    """Everything that the rewards measure of a batch."""
    return tuple(column for reward in rewards for column in reward.score(answers))
