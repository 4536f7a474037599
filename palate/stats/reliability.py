"""How far each person's answers can be relied on, from the answers alone (Dawid and Skene 1979, JRSS C 28).

Every unit has a true answer and every person a confusion matrix, both estimated by expectation maximisation. crowd-kit
does it too, over transformers and scikit-learn that nothing else here needs; the tests check that its answer is ours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import csr_array
from scipy.special import softmax

from palate.errors import DataError
from palate.records import Estimate
from palate.stats.estimate import distinct

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

KINDS = 3  # bad, same, good
_FEWEST = 4  # answers of a person, of whom Fisher's z can say anything
# Where people differ, 83,000 units of three answers settle to a millionth within 60 rounds (the tests look). Votes of
# which nearly nothing can be learnt wander on for hundreds, and what they come to means as little.
ROUNDS = 60
_METHOD = "correlation with the others' Dawid-Skene truth, Fisher's z"


@dataclass(frozen=True)
class Skill:
    """A fitted Dawid-Skene model.

    Attributes:
        truth: (units, 3) probability of each answer.
        confusion: (people, 3, 3) probability of each answer given for each true one.
        share: (3,) how frequent each true answer is.
    """

    truth: Floats
    confusion: Floats
    share: Floats


def dawid_skene(unit: Ints, person: Ints, answer: Ints, smoothing: float = 0.0, rounds: int = 200) -> Skill:
    """Expectation maximisation from majorities, until no probability moves by 1e-6.

    Args:
        unit, person: (n,) codes from 0.
        answer: (n,) of 0, 1, 2.
        smoothing: votes added to each cell of a confusion matrix; 0 is maximum likelihood.

    Raises:
        DataError: there are no votes.
    """
    if not len(answer):
        raise DataError("there are no votes", "pull some, or choose another study or axis")
    units, people = int(unit.max()) + 1, int(person.max()) + 1
    # (units, people x answers): how often each person gave each answer to a unit. Both steps are a product with it.
    given = csr_array((np.ones(len(answer)), (unit, person.astype(np.int64) * KINDS + answer)), (units, people * KINDS))
    by_answer = given.T.tocsr()
    truth = np.stack([np.bincount(unit, answer == kind, units) for kind in range(KINDS)], axis=1)
    truth /= truth.sum(1, keepdims=True)
    confusion, share = np.zeros((people, KINDS, KINDS)), np.zeros(KINDS)
    for _ in range(rounds):
        confusion = (by_answer @ truth + smoothing).reshape(people, KINDS, KINDS).swapaxes(1, 2)
        confusion = confusion / np.maximum(confusion.sum(2, keepdims=True), 1e-300)
        share = truth.mean(0)
        chances = np.log(np.maximum(confusion, 1e-300)).swapaxes(1, 2).reshape(people * KINDS, KINDS)
        score = (np.log(np.maximum(share, 1e-300)) + given @ chances).T.copy()  # numpy is slow along a short last axis
        after = np.exp(score - score.max(0))
        after = (after / after.sum(0)).T
        moved = np.abs(after - truth).max()
        truth = after
        if moved < 1e-6:
            break
    return Skill(truth, confusion, share)


def reliabilities(
    unit: Ints, person: Ints, outcome: Ints, people: int, smoothing: float = 1.0, level: float = 0.95
) -> list[Estimate]:
    """How far each person's answers follow the others' truth: the correlation of the two, 0 for guessing.

    The truth of a unit is what the model expects of it with the person's own answer taken out.

    Args:
        unit, person: (n,) codes, which need not all occur.
        outcome: (n,) of -1, 0, 1.
        people: how many there are; an estimate for each is returned, with why it is missing where it is.
        smoothing: as for `dawid_skene`; 1 keeps the matrix of somebody who gave few answers from being certain.
    """
    if not len(outcome):
        return [_missing(0, level, "fewer than 4 votes") for _ in range(people)]
    (_, unit), (present, own) = distinct(unit), distinct(person)
    skill = dawid_skene(unit, own, outcome + 1, smoothing, ROUNDS)
    others = np.log(np.maximum(skill.truth, 1e-12))[unit]
    others -= np.log(np.maximum(skill.confusion, 1e-12))[own, :, outcome + 1]
    truth = softmax(others, axis=1) @ np.array([-1.0, 0.0, 1.0])

    def per_person(values: Floats) -> Floats:
        return np.bincount(own, values, len(present)).astype(float)

    n = np.bincount(own)
    x, y = (values - (per_person(values) / n)[own] for values in (truth, outcome.astype(float)))
    spread_x, spread_y = per_person(x * x), per_person(y * y)
    # A spread of rounding errors alone is none: the values are within [-1, 1].
    varies = (n >= _FEWEST) & (spread_x > 1e-18 * n) & (spread_y > 1e-18 * n)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = per_person(x * y) / np.sqrt(spread_x * spread_y)
        half = stats.norm.ppf((1 + level) / 2) / np.sqrt(n - 3)
    middle = np.arctanh(np.clip(value, -0.999999, 0.999999))
    low, high = np.tanh(middle - half), np.tanh(middle + half)
    found = [_missing(0, level, "fewer than 4 votes")] * people
    for at, code in enumerate(present.tolist()):
        votes = int(n[at])
        if varies[at]:
            one, *interval = (float(numbers[at]) for numbers in (value, low, high))
            found[code] = Estimate(value=one, low=interval[0], high=interval[1], n=votes, level=level, method=_METHOD)
        else:
            why = "fewer than 4 votes" if votes < _FEWEST else "every answer is the same"
            found[code] = _missing(votes, level, why)
    return found


def _missing(n: int, level: float, why: str) -> Estimate:
    return Estimate(value=None, low=None, high=None, n=n, level=level, method=_METHOD, note=why)
