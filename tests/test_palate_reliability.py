"""Dawid and Skene's model and what it says of people, against the same written out vote by vote."""

import time

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from palate.stats.reliability import ROUNDS, dawid_skene, reliabilities


def crowd(seed: int, units: int, people: int, each: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Units, people, answers 0, 1, 2, and how often each person is right: from a quarter to all but never wrong."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), each)
    person = np.concatenate([rng.permutation(people)[:each] for _ in range(units)])
    right = np.linspace(0.25, 0.95, people)
    truth = rng.integers(3, size=units)[unit]
    answer = np.where(rng.random(len(unit)) < right[person], truth, rng.integers(3, size=len(unit)))
    return unit, person, answer, right


def by_the_book(unit: np.ndarray, person: np.ndarray, answer: np.ndarray, smoothing: float, rounds: int) -> np.ndarray:
    """Truth and confusion, a vote at a time: Dawid and Skene's equations 2.3 to 2.5."""
    truth = np.zeros((unit.max() + 1, 3))
    for u, a in zip(unit, answer):
        truth[u, a] += 1
    truth /= truth.sum(1, keepdims=True)
    confusion = np.zeros((person.max() + 1, 3, 3))
    for _ in range(rounds):
        confusion = np.full_like(confusion, smoothing)
        for u, p, a in zip(unit, person, answer):
            confusion[p, :, a] += truth[u]
        confusion /= confusion.sum(2, keepdims=True)
        score = np.tile(np.log(truth.mean(0)), (len(truth), 1))
        for u, p, a in zip(unit, person, answer):
            score[u] += np.log(confusion[p, :, a])
        truth = softmax(score, axis=1)
    return np.concatenate([truth, confusion.reshape(-1, 3)])


@pytest.mark.parametrize("smoothing", [0.5, 1.0])
def test_the_model_is_that_of_the_equations_written_out(smoothing: float) -> None:
    unit, person, answer, _ = crowd(0, units=150, people=12)
    found = dawid_skene(unit, person, answer, smoothing, rounds=25)
    wanted = by_the_book(unit, person, answer, smoothing, rounds=25)
    assert np.concatenate([found.truth, found.confusion.reshape(-1, 3)]) == pytest.approx(wanted, abs=1e-4)


def test_a_reliability_is_the_correlation_with_the_truth_without_ones_own_vote() -> None:
    unit, person, answer, _ = crowd(1, units=200, people=10)
    skill = dawid_skene(unit, person, answer, 1.0)
    found = reliabilities(unit, person, answer - 1, people=10)
    for code, one in enumerate(found):
        own = np.flatnonzero(person == code)
        others = np.log(skill.truth[unit[own]]) - np.log(skill.confusion[code, :, answer[own]])
        expected = softmax(others, axis=1) @ np.array([-1.0, 0.0, 1.0])
        known = stats.pearsonr(expected, answer[own] - 1)
        assert (one.value, one.n) == (pytest.approx(known.statistic, abs=1e-9), len(own))
        interval = known.confidence_interval(0.95)  # by Fisher's z too
        assert (one.low, one.high) == (pytest.approx(interval.low, abs=1e-9), pytest.approx(interval.high, abs=1e-9))


def test_people_are_ordered_as_they_are_right_and_unknowns_stay_unknown() -> None:
    unit, person, answer, right = crowd(2, units=4_000, people=20)
    answer[person == 7] = 2
    found = reliabilities(unit, person, answer - 1, people=22)  # the last two never answered
    told = [at for at in range(20) if at != 7]
    assert stats.spearmanr([found[at].value for at in told], right[told]).statistic > 0.95
    assert (found[7].value, found[7].note) == (None, "every answer is the same")
    assert [(one.value, one.n, one.note) for one in found[20:]] == [(None, 0, "fewer than 4 votes")] * 2
    assert all(one.value is None for one in reliabilities(unit[:0], person[:0], answer[:0], people=3))


def test_a_quarter_of_a_million_votes_settle_in_the_rounds_there_are_and_in_seconds() -> None:
    unit, person, answer, _ = crowd(3, units=83_000, people=60)
    began = time.process_time()
    assert len(reliabilities(unit, person, answer - 1, people=60)) == 60
    assert time.process_time() - began < 3.0  # 0.6 to 0.8 s beside other work
    last, more = (dawid_skene(unit, person, answer, 1.0, rounds) for rounds in (ROUNDS, 3 * ROUNDS))
    assert np.abs(last.truth - more.truth).max() < 1e-5
