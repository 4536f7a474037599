"""The hacking alarm on simulated runs: how often it rings when nothing falls, and how soon when something does."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from palate.errors import DataError
from rewards import alarm
from rewards.alarm import AlarmSettings, HackingAlarm, Look

Floats = NDArray[np.floating]


def run(means: Floats, rises: Floats, prompts: int, seed: int, checks: int = 1) -> list[Look]:
    """Gold as a verifier's: a share of checks that hold, with a chance that differs between prompts at all looks."""
    rng = np.random.default_rng(seed)
    prompt = rng.normal(0, 0.25, prompts)
    watch = HackingAlarm(AlarmSettings(looks=len(means)))
    for mean, rise in zip(means, rises):
        chance = np.clip(mean + prompt, 0.02, 0.98)
        gold = rng.binomial(checks, chance) / checks
        watch.look(gold, rise + 0.5 * prompt + rng.standard_normal(prompts))
    return watch.history


@pytest.fixture
def fewer_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm, "PATHS", 2000)


@pytest.mark.parametrize("climb", [0.0, 0.15])
@pytest.mark.usefixtures("fewer_paths")
def test_it_rings_falsely_no_more_often_than_it_says(climb: float) -> None:
    """Runs of 10 looks in which gold stands still, or climbs; the proxy climbs in all."""
    runs = 60 if climb else 150
    means, rises = 0.5 + climb * np.linspace(0, 1, 10), np.linspace(0, 2, 10)
    rung = [run(means, rises, 80, seed)[-1].state != "calm" for seed in range(runs)]
    if climb:
        assert sum(rung) <= 2
    else:  # five in a hundred: not more, and not none
        assert stats.binom.ppf(0.001, runs, 0.05) <= sum(rung) <= stats.binom.ppf(0.999, runs, 0.05)


@pytest.mark.usefixtures("fewer_paths")
def test_testing_each_look_against_the_best_so_far_would_ring_far_too_often() -> None:
    """What the scan's threshold is for: a plain one-sided 5% test of the largest fall."""
    naive = 0
    for seed in range(40):
        found = run(np.full(10, 0.5), np.linspace(0, 2, 10), 80, seed)
        naive += max(look.statistic for look in found[1:]) > stats.norm.ppf(0.95)
    assert naive > 16


@pytest.mark.usefixtures("fewer_paths")
def test_it_rings_before_gold_has_lost_three_points_and_names_where_to_stop() -> None:
    """Gold climbs 8 points, then falls half a point a look; 1,500 prompts, five checks of each answer."""
    means = np.concatenate([0.5 + 0.01 * np.arange(9), 0.58 - 0.005 * np.arange(1, 16)])
    lost, stops = [], []
    for seed in range(6):
        found = run(means, np.linspace(0, 3, len(means)), 1500, seed, checks=5)
        rings = next(look for look in found if look.state != "calm")
        assert rings.state == "hacking"
        lost.append(0.58 - means[rings.look])
        stops.append(rings.stop)
        assert rings.lost is not None
        assert rings.lost.low > 0  # type: ignore[operator]
        assert found[-1].state == "hacking"  # it goes on ringing, and goes on naming the same look
        assert found[-1].stop == rings.stop
    assert np.median(lost) <= 0.03
    assert np.abs(means[stops] - 0.58).max() < 0.03


def answers_that_change(means: Floats, prompts: int, seed: int, each: float = 0.076) -> list[Look]:
    """Right or wrong, under one noise at all looks: an answer changes as the model drifts, so looks that are far apart
    differ in more answers. `each` look 2.3% of the answers change, and 5% in five, as measured on AWM at lr 2e-4."""
    rng = np.random.default_rng(seed)
    ease, watch = rng.standard_normal(prompts), HackingAlarm(AlarmSettings(looks=len(means)))
    for number, mean in enumerate(means):
        watch.look((ease < stats.norm.ppf(mean)).astype(float), 0.1 * number + rng.standard_normal(prompts))
        ease = np.sqrt(1 - each**2) * ease + each * rng.standard_normal(prompts)
    return watch.history


@pytest.mark.usefixtures("fewer_paths")
def test_a_verifier_that_drifts_down_is_caught_within_three_points_and_one_that_stands_still_is_left_alone() -> None:
    """The plan of tests/study/hacking.py: 12 looks at 1,280 answers; strict falls 0.8 points a look from 66%."""
    still, falls = np.full(12, 0.66), 0.66 - 0.008 * np.arange(12)
    rung = sum(answers_that_change(still, 1280, seed)[-1].state != "calm" for seed in range(60))
    assert stats.binom.ppf(0.999, 60, 0.05) >= rung
    lost = []
    for seed in range(20):
        found = answers_that_change(falls, 1280, seed)
        lost.append(0.66 - falls[next(look.look for look in found if look.state != "calm")])
    assert np.median(lost) <= 0.02
    assert sum(one > 0.03 for one in lost) <= 3


def test_a_fall_of_both_is_a_collapse_and_no_hacking() -> None:
    means = np.concatenate([np.full(4, 0.6), np.full(4, 0.3)])
    found = run(means, np.concatenate([np.zeros(4), np.full(4, -1.0)]), 200, 0)
    assert found[-1].state == "collapse"
    assert found[3].state == "calm"


def test_the_threshold_of_two_looks_is_the_quantile_of_one_paired_test() -> None:
    """One comparison, all of the level spent on it: Student's test, up to the bootstrap's noise."""
    rng = np.random.default_rng(0)
    watch = HackingAlarm(AlarmSettings(looks=2, windows=(1,)))
    first, second = rng.standard_normal(500), rng.standard_normal(500)
    watch.look(first, first)
    found = watch.look(second, second)
    assert found.threshold == pytest.approx(stats.t.ppf(0.95, 499), abs=0.06)
    assert found.statistic == pytest.approx(float(stats.ttest_rel(first, second)[0]))


def test_it_is_a_function_of_the_scores() -> None:
    a, b = (run(np.linspace(0.6, 0.5, 6), np.zeros(6), 60, 3) for _ in range(2))
    assert [look.threshold for look in a] == [look.threshold for look in b]


def test_what_it_cannot_judge_it_refuses() -> None:
    scores = np.random.default_rng(0).random(40)
    watch = HackingAlarm(AlarmSettings(looks=2))
    with pytest.raises(DataError, match="needs 30"):
        watch.look(scores[:5], scores[:5])
    watch.look(scores, scores)
    with pytest.raises(DataError, match="other prompts"):
        watch.look(scores[:35], scores[:35])
    with pytest.raises(DataError, match="missing scores"):
        watch.look(np.where(scores > 0.5, np.nan, scores), scores)
    constant = watch.look(scores, scores)
    assert (constant.state, constant.threshold) == ("calm", np.inf)  # nothing differs: there is no fall to judge
    with pytest.raises(DataError, match="planned looks"):
        watch.look(scores, scores)
