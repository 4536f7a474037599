"""The simulated people's answers follow their closed forms, and nothing but who is asked what decides them."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import binomtest, norm

from annotation.simulate import Population, Taste, measured, rao_kupper
from palate.errors import DataError
from palate.records import Case, Comparison, Judgement, Sample, Score, Side, Verdict

CASE = Case(suite="suite", prompt="prompt").id
PLAIN = Taste(weights={"overall": {"prompt": 4.0}}, weights_sd=0, tie_sd=0, left=0, left_sd=0, careless=0, skip=0)


def taste(**changes: object) -> Taste:
    return Taste.model_validate(PLAIN.model_dump() | changes)


def pairs(n: int, ahead: float = 0.0, side: Side | None = None) -> tuple[list[Comparison], dict[str, dict[str, float]]]:
    """`n` comparisons, sides in turn unless one is given, whose candidates are `ahead` in the feature "prompt"."""
    comparisons, features = [], {}
    for number in range(n):
        one, other = (Sample(case=CASE, system=name, seed=number).id for name in ("new", "old"))
        where = side or list(Side)[number % 2]
        comparisons.append(Comparison(study="s", case=CASE, candidate=one, baseline=other, candidate_side=where))
        features[one] = {"prompt": 0.5 + ahead}
        features[other] = {"prompt": 0.5}
    return comparisons, features


def ask(population: Population, comparisons: list[Comparison], features: dict) -> list[Judgement]:
    """Everybody in turn, one person a comparison."""
    people = population.annotators
    return [population.judge(one, features, people[n % len(people)]) for n, one in enumerate(comparisons)]


def agrees(judgements: list[Judgement], shares: dict[Verdict, float]) -> bool:
    """Whether each verdict is as frequent as it should be, at one chance in 100,000 of a false alarm."""
    counts = Counter(one.verdicts["overall"] for one in judgements)
    return all(binomtest(counts[v], len(judgements), share).pvalue > 1e-5 for v, share in shares.items())


@given(st.floats(-20, 20), st.floats(1, 50))
def test_rao_kupper_is_a_distribution_and_symmetric(d, k):
    good, same, bad = (float(column) for column in rao_kupper(d, k))
    assert good + same + bad == pytest.approx(1)
    assert min(good, same, bad) >= -1e-12
    assert [float(column) for column in rao_kupper(-d, k)] == pytest.approx([bad, same, good])
    if k > 1 + 1e-9:
        assert same == pytest.approx((k**2 - 1) * good * bad, abs=1e-9)  # Rao and Kupper's form of the same
    assert float(rao_kupper(0, k)[1]) == pytest.approx((k - 1) / (k + 1))


@pytest.mark.parametrize("ahead", [0.0, 0.2, -0.4])
def test_verdicts_fall_as_rao_and_kupper_say(ahead):
    comparisons, features = pairs(4000, ahead)
    good, same, bad = (float(column) for column in rao_kupper(4 * ahead, PLAIN.tie))
    shares = {Verdict.GOOD: good, Verdict.SAME: same, Verdict.BAD: bad}
    population = Population(PLAIN, 5, 0)
    assert population.shares({"prompt": 0.5 + ahead}, {"prompt": 0.5}) == pytest.approx(shares)
    assert population.net({"prompt": 0.5 + ahead}, {"prompt": 0.5}) == pytest.approx(good - bad)
    assert agrees(ask(population, comparisons, features), shares)


def test_a_side_leaning_shows_and_balanced_sides_cancel_it():
    leaning = Population(taste(left=1.0), 5, 0)
    good, same, bad = (float(column) for column in rao_kupper(1.0, PLAIN.tie))
    left = ask(leaning, *pairs(3000, side=Side.LEFT))
    assert agrees(left, {Verdict.GOOD: good, Verdict.SAME: same, Verdict.BAD: bad})
    right = ask(leaning, *pairs(3000, side=Side.RIGHT))
    assert agrees(right, {Verdict.GOOD: bad, Verdict.SAME: same, Verdict.BAD: good})
    both = ask(leaning, *pairs(3000))
    half = (good + bad) / 2
    assert agrees(both, {Verdict.GOOD: half, Verdict.SAME: same, Verdict.BAD: half})
    assert leaning.net({"prompt": 0.5}, {"prompt": 0.5}) == pytest.approx(0)


def test_people_differ_as_the_taste_says_and_the_truth_is_their_mean():
    crowd = Population(taste(weights_sd=0.5), 20_000, 1)

    def given_z(z: float) -> float:
        good, _, bad = rao_kupper(4 * 0.3 * (1 + 0.5 * z), PLAIN.tie)
        return float(good - bad) * float(norm.pdf(z))

    expected = integrate.quad(given_z, -8, 8)[0]
    assert crowd.net({"prompt": 0.8}, {"prompt": 0.5}) == pytest.approx(expected, abs=0.005)

    few = Population(taste(weights_sd=1.0, left_sd=0.5, tie_sd=0.5, careless=0.2), 10, 2)
    truth = few.shares({"prompt": 0.8}, {"prompt": 0.5})
    comparisons, features = pairs(400, 0.3)
    everybody = [few.judge(one, features, person) for one in comparisons for person in few.annotators]
    assert agrees(everybody, truth)
    nets = [net([one for one in everybody if one.annotator == person]) for person in few.annotators]
    assert np.std(nets) > 3 / np.sqrt(400)  # far beyond what chance gives people who are all alike


def net(judgements: list[Judgement]) -> float:
    counts = Counter(one.verdicts["overall"] for one in judgements)
    return (counts[Verdict.GOOD] - counts[Verdict.BAD]) / len(judgements)


def test_the_careless_are_as_many_as_said_answer_at_random_and_fast():
    population = Population(taste(careless=0.3, careless_seconds=1.0, seconds=20.0), 10, 3)
    comparisons, features = pairs(200, ahead=1.0)
    nets, medians = {}, {}
    for person in population.annotators:
        own = [population.judge(one, features, person) for one in comparisons]
        nets[person] = net(own)
        medians[person] = float(np.median([one.seconds for one in own if one.seconds is not None]))
    careless = {person for person, value in medians.items() if value < 4}
    assert len(careless) == 3
    assert all((nets[person] < 0.5) == (person in careless) for person in nets)
    assert all(14 < medians[person] < 28 for person in nets if person not in careless)


def test_known_order_is_recovered():
    quality = np.linspace(0, 1, 5)
    ids = [Sample(case=CASE, system=f"system {number}").id for number in range(5)]
    features = {one: {"prompt": float(value)} for one, value in zip(ids, quality)}
    population = Population(taste(weights_sd=0.3, careless=0.2, left=0.3), 10, 4)
    points = Counter()
    for study in range(40):
        for i, one in enumerate(ids):
            for other in ids[i + 1 :]:
                for side in Side:
                    comparison = Comparison(
                        study=str(study), case=CASE, candidate=one, baseline=other, candidate_side=side
                    )
                    person = population.annotators[study % 10]
                    verdict = population.judge(comparison, features, person).verdicts["overall"]
                    points[one] += (verdict is Verdict.GOOD) - (verdict is Verdict.BAD)
                    points[other] -= (verdict is Verdict.GOOD) - (verdict is Verdict.BAD)
    assert sorted(ids, key=lambda one: points[one]) == ids


@given(st.randoms(), st.integers(0, 2**63))
def test_order_restarts_and_workers_change_nothing(chance, seed):
    comparisons, features = pairs(6, 0.1)
    jobs = [(one, person) for one in comparisons for person in ("simulated-01", "simulated-03")]
    first = Population(Taste(weights={"overall": {"prompt": 1}}), 3, seed)
    answers = {job: first.judge(job[0], features, job[1]) for job in jobs}
    chance.shuffle(jobs)
    for one, person in jobs:
        fresh = Population(Taste(weights={"overall": {"prompt": 1}}), 3, seed)
        assert fresh.judge(one, features, person).id == answers[one, person].id


def test_another_seed_gives_other_people_and_says_so():
    comparisons, features = pairs(50)
    one, other = (ask(Population(PLAIN, 3, seed), comparisons, features) for seed in (0, 1))
    assert [a.verdicts for a in one] != [b.verdicts for b in other]
    assert {a.source for a in one}.isdisjoint(b.source for b in other)
    assert all(a.simulated and a.source.startswith("simulated:") for a in one)
    assert Population(PLAIN, 3, 0).annotators == ("simulated-01", "simulated-02", "simulated-03")


def test_skips_have_reasons_and_are_as_frequent_as_said():
    comparisons, features = pairs(2000)
    answers = ask(Population(taste(skip=0.1), 4, 0), comparisons, features)
    skipped = [one for one in answers if one.skip]
    assert binomtest(len(skipped), 2000, 0.1).pvalue > 1e-5
    assert not any(one.verdicts for one in skipped)


def test_a_failed_sample_is_skipped_and_an_unmeasured_one_is_an_error():
    (comparison,), features = pairs(1)
    population = Population(PLAIN, 1, 0)
    failed = population.judge(comparison, features | {comparison.baseline: None}, "simulated-01")
    assert failed.skip
    assert "failed" in failed.skip
    with pytest.raises(DataError, match="prompt"):
        population.judge(comparison, features | {comparison.baseline: {"motion": 1.0}}, "simulated-01")
    with pytest.raises(DataError, match="nothing is measured"):
        population.judge(comparison, {comparison.candidate: {"prompt": 1.0}}, "simulated-01")
    with pytest.raises(DataError, match="not of this population"):
        population.judge(comparison, features, "Anna")
    with pytest.raises(DataError, match="no taste"):
        population.shares({"prompt": 1}, {"prompt": 0}, "loudness")
    with pytest.raises(DataError, match="at least one"):
        Population(PLAIN, 0, 0)


def test_features_come_from_scores_and_failures_stay_failures():
    one, other, third = (Sample(case=CASE, system="new", seed=seed).id for seed in range(3))
    names = {"shapes.prompt": "prompt", "shapes.motion": "motion"}
    scores = [
        Score(sample=one, scorer="shapes.prompt", value=0.5),
        Score(sample=one, scorer="shapes.motion", value=0.25),
        Score(sample=one, scorer="length", value=9),
        Score(sample=other, scorer="shapes.motion", failure="no object"),
        Score(sample=other, scorer="shapes.prompt", value=1),
        Score(sample=third, scorer="shapes.prompt", value=1),
    ]
    expected = {one: {"prompt": 0.5, "motion": 0.25}, other: None, third: {"prompt": 1.0}}
    assert measured(scores, names) == measured(scores[::-1], names) == expected
    with pytest.raises(DataError, match="differently"):
        measured([*scores, Score(sample=one, scorer="shapes.prompt", value=0.6)], names)


def test_ten_thousand_judgements_take_less_than_three_seconds():
    comparisons, features = pairs(2500, 0.1)
    for row in features.values():
        row |= {"motion": 0.5, "visual": 0.5}
    population = Population(Taste(), 4, 0)
    start = time.process_time()
    judgements = [population.judge(one, features, person) for one in comparisons for person in population.annotators]
    assert len(judgements) == 10_000
    assert time.process_time() - start < 3
