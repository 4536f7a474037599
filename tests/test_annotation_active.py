"""The active design finds the best of several systems with fewer votes than asking at random; and it stays blind."""

from collections import Counter

import numpy as np
import pytest
from scipy.special import expit

from annotation.active import believed, next_round, top_two
from palate.errors import DataError
from palate.records import Case, Comparison, Judgement, Sample, Side, Verdict
from tests.study.active import walks

CASES = [Case(suite="suite", prompt=f"prompt {number}").id for number in range(30)]


def test_it_saves_votes_over_many_seeds():
    uniform, active = (walks(30, active=active) for active in (False, True))
    assert active.found() <= 0.7 * uniform.found()
    width = float(uniform.width[:, -1].mean())
    assert active.narrow(width) <= 0.5 * uniform.narrow(width)


def test_strengths_are_at_the_maximum_of_what_is_believed():
    points = np.random.default_rng(0).integers(0, 9, (5, 5)).astype(float)
    np.fill_diagonal(points, 0)
    strength, covariance = believed(points)
    chance = expit(strength[:, None] - strength)
    slope = (points - (points + points.T) * chance).sum(1) - strength / 4
    assert np.abs(slope).max() < 1e-6
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_the_best_is_asked_about_most_and_never_against_itself():
    points = np.zeros((6, 6))
    points[0, 1:], points[1, 2:] = 30, 30
    pairs = top_two(points, 200, np.random.default_rng(0))
    assert all(one != other for one, other in pairs)
    assert Counter(one for pair in pairs for one in pair).most_common(2)[0][0] == 0
    assert Counter(frozenset(pair) for pair in pairs).most_common(1)[0][0] == {0, 1}


def world(systems: int = 4) -> list[Sample]:
    media = "0" * 64 + ".mp4"
    return [Sample(case=case, system=f"system {n}", media=media) for case in CASES for n in range(systems)]


def test_rounds_are_balanced_new_and_hold_gold_and_repeats_unseen():
    samples = world()
    better, worse = (Sample(case=CASES[0], system=name, media="1" * 64 + ".mp4") for name in ("best", "worst"))
    asked: list[Comparison] = []
    for _ in range(3):
        asked += next_round("s", samples, asked, [], 40, 0, gold=[(better, worse)], repeat=0.1)
    normal = [one for one in asked if one.role == "normal"]
    assert len({frozenset((one.candidate, one.baseline)) for one in normal}) == len(normal) == 120
    per_case = Counter(one.case for one in normal)
    assert max(per_case.values()) - min(per_case.values()) <= 1
    sides = Counter(one.candidate_side for one in asked)
    assert abs(sides[Side.LEFT] - sides[Side.RIGHT]) <= 6
    assert Counter(one.role for one in asked) == {"normal": 120, "repeat": 12, "gold": 3}
    assert len(next_round("s", samples, asked, [], 1000, 0)) <= 6 * len(CASES) - 120


def test_votes_turn_the_next_round_to_the_leaders():
    samples = {one.id: one for one in world()}
    first = next_round("s", samples.values(), [], [], 90, 0)
    rank = {id: int(one.system[-1]) for id, one in samples.items()}
    votes = [
        Judgement(
            comparison=one.id,
            annotator="ann",
            simulated=False,
            source="test",
            verdicts={"overall": Verdict.GOOD if rank[one.candidate] < rank[one.baseline] else Verdict.BAD},
        )
        for one in first
    ]
    second = next_round("s", samples.values(), first, votes, 30, 0)
    asked = Counter(rank[sample] for one in second for sample in (one.candidate, one.baseline))
    assert asked[0] + asked[1] > 0.7 * sum(asked.values())
    assert second == next_round("s", list(samples.values())[::-1], first[::-1], votes[::-1], 30, 0)


def test_one_system_is_refused():
    with pytest.raises(DataError, match="1 systems"):
        next_round("s", world(1), [], [], 10, 0)
