"""Designs are balanced exactly, depend on the seed alone, lose nothing without saying so, and show nothing."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.design import advance, assign, blind_name, knockout_round, versus
from palate.errors import DataError
from palate.records import Case, Comparison, Preference, Sample, Side, content_hash

CASES = [Case(suite="suite", prompt=f"prompt {number}").id for number in range(12)]


def sample(case: str, system: str, seed: int | None, fine: bool = True) -> Sample:
    media = ("0" * 64 + ".mp4") if fine else None
    return Sample(case=case, system=system, seed=seed, media=media, failure=None if fine else "no memory")


def system(name: str) -> st.SearchStrategy[list[Sample]]:
    """Samples of one system: any cases, seeds known or not, some failed."""
    one = st.builds(
        sample, st.sampled_from(CASES), st.just(name), st.one_of(st.none(), st.integers(0, 5)), st.booleans()
    )
    return st.lists(one, max_size=40)


def whole(name: str, cases: int, seeds: int) -> list[Sample]:
    return [sample(case, name, seed) for case in CASES[:cases] for seed in range(seeds)]


def lean(comparisons: list[Comparison]) -> int:
    """Comparisons with the candidate on the left, less those with it on the right."""
    return sum(1 if one.candidate_side is Side.LEFT else -1 for one in comparisons)


@given(system("new"), system("old"), st.integers(0, 2**32), st.floats(0, 1), st.randoms())
@settings(max_examples=150, deadline=None)
def test_versus_is_balanced_complete_and_blind_to_the_order_of_its_inputs(new, old, seed, repeat, chance):
    gold = [(sample(case, "good", 0), sample(case, "poor", 0)) for case in CASES[:3]]
    plan = versus("study", new, old, seed, gold=gold, repeat=repeat)
    shown = {role: [one for one in plan.comparisons if one.role == role] for role in ("normal", "repeat", "gold")}

    assert len(shown["gold"]) == 3
    assert len(shown["repeat"]) == round(repeat * len(shown["normal"]))
    assert abs(lean(plan.comparisons)) <= 1
    assert abs(lean(shown["normal"])) <= 1
    for case in CASES:
        assert abs(lean([one for one in shown["normal"] if one.case == case])) <= 1

    samples = {one.id: one for one in [*new, *old]}
    used = Counter(side for one in shown["normal"] for side in (one.candidate, one.baseline))
    assert set(used.values()) <= {1}
    assert len(samples) == len(used) + plan.failed + plan.unpaired
    assert plan.failed == sum(one.media is None for one in samples.values())
    for one in shown["normal"]:
        candidate, baseline = samples[one.candidate], samples[one.baseline]
        assert (candidate.system, baseline.system) == ("new", "old")
        assert candidate.case == baseline.case == one.case
        assert candidate.media
        assert baseline.media
    for case in CASES:  # nobody is left over who could have been paired
        left = [one.system for one in samples.values() if one.case == case and one.media and one.id not in used]
        assert len(set(left)) <= 1

    originals = {(one.candidate, one.baseline): one for one in shown["normal"]}
    for one in shown["repeat"]:
        assert one.candidate_side is not originals[one.candidate, one.baseline].candidate_side

    chance.shuffle(new)
    chance.shuffle(old)
    assert versus("study", new, old, seed, gold=gold[::-1], repeat=repeat) == plan


def test_versus_pairs_same_seed_with_same_seed_then_in_order():
    new = [sample(CASES[0], "new", seed, fine=seed != 9) for seed in (8, 0, 7, 3, 9, 2)]
    old = [sample(CASES[0], "old", seed, fine=seed != 7) for seed in (7, 6, 3, 2, 5)]
    seeds = {one.id: one.seed for one in [*new, *old]}
    plan = versus("study", new, old, 7)
    assert {(seeds[one.candidate], seeds[one.baseline]) for one in plan.comparisons} == {(2, 2), (3, 3), (0, 5), (7, 6)}
    assert (plan.failed, plan.unpaired) == (2, 1)


def test_a_single_pair_has_no_usual_side():
    new, old = whole("new", 1, 1), whole("old", 1, 1)
    lefts = sum(lean(versus("study", new, old, seed).comparisons) == 1 for seed in range(400))
    assert 140 < lefts < 260


def test_versus_differs_between_seeds_and_sides_follow_neither_case_nor_seed():
    new, old = whole("new", 12, 2), whole("old", 12, 2)
    lefts = Counter()
    for seed in range(400):
        for one in versus("study", new, old, seed).comparisons:
            lefts[one.candidate] += one.candidate_side is Side.LEFT
    assert len(lefts) == 24
    assert all(140 < count < 260 for count in lefts.values())  # 200 expected, six standard deviations


@pytest.mark.parametrize("repeat", [-0.1, 1.1])
def test_versus_refuses_a_repeat_that_is_no_share(repeat):
    with pytest.raises(DataError, match="from 0 to 1"):
        versus("study", [], [], 0, repeat=repeat)


def test_versus_refuses_samples_on_both_sides_and_gold_that_cannot_be_shown():
    with pytest.raises(DataError, match="at once"):
        versus("study", whole("new", 1, 2), whole("new", 1, 1), 0)
    for worse in (sample(CASES[1], "poor", 0), sample(CASES[0], "poor", 0, fine=False)):
        with pytest.raises(DataError, match="gold"):
            versus("study", [], [], 0, gold=[(sample(CASES[0], "good", 0), worse)])


@given(st.integers(1, 9), st.integers(0, 2**32), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_knockout_costs_one_comparison_less_than_samples_and_leaves_the_best(k, seed, skill_seed):
    entrants = {case: tuple(one.id for one in whole("new", 12, k) if one.case == case) for case in CASES}
    ranked = {case: sorted(ids, key=lambda one: content_hash([one, skill_seed])) for case, ids in entrants.items()}
    count = Counter()
    while any(len(ids) > 1 for ids in entrants.values()):
        shown = knockout_round("study", entrants, seed)
        assert shown == knockout_round("study", {case: ids[::-1] for case, ids in entrants.items()}, seed)
        assert abs(lean(shown)) <= 1
        count.update(one.case for one in shown)
        settled = [prefer(one, min((one.candidate, one.baseline), key=ranked[one.case].index)) for one in shown]
        following = advance(entrants, shown, settled, seed)
        for case, ids in entrants.items():
            assert set(following[case]) < set(ids) or len(ids) == 1
            assert len(following[case]) == (len(ids) + 1) // 2
        entrants = following
    assert knockout_round("study", entrants, seed) == []
    assert {case: ids[0] for case, ids in entrants.items()} == {case: ranked[case][0] for case in CASES}
    assert all(count[case] == k - 1 for case in CASES)


def prefer(comparison: Comparison, winner: str) -> Preference:
    (loser,) = {comparison.candidate, comparison.baseline} - {winner}
    judgements = ("judgement-" + "0" * 24,)
    return Preference(
        study="study",
        case=comparison.case,
        axis="overall",
        winner=winner,
        loser=loser,
        weight=1,
        policy="test",
        judgements=judgements,
        simulated=True,
    )


def test_a_tie_is_settled_by_a_fair_coin_that_the_seed_repeats():
    entrants = {case: tuple(one.id for one in whole("new", 12, 2) if one.case == case) for case in CASES}
    shown = knockout_round("study", entrants, 0)
    assert advance(entrants, shown, [], 1) == advance(entrants, shown[::-1], [], 1)
    wins = Counter(advance(entrants, shown, [], seed)[CASES[0]] for seed in range(400))
    assert len(wins) == 2
    assert all(140 < count < 260 for count in wins.values())


def test_a_comparison_that_both_samples_lost_is_refused():
    entrants = {CASES[0]: tuple(one.id for one in whole("new", 1, 2))}
    (shown,) = knockout_round("study", entrants, 0)
    with pytest.raises(DataError, match="both samples"):
        advance(entrants, [shown], [prefer(shown, shown.candidate), prefer(shown, shown.baseline)], 0)


@given(st.integers(1, 9), st.data(), st.integers(0, 12), st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_assign_gives_each_comparison_to_enough_people_and_everybody_the_same(people, data, cases, repeat, seed):
    overlap = data.draw(st.integers(1, people))
    comparisons = versus("study", whole("new", cases, 3), whole("old", cases, 3), 5, repeat=repeat).comparisons
    annotators = [f"person {number}" for number in range(people)]
    lists = assign(comparisons, annotators, overlap, seed)

    assert list(lists) == annotators
    held = Counter(one for own in lists.values() for one in set(own))
    assert held == {one.id: overlap for one in comparisons}
    loads = [len(own) for own in lists.values()]
    assert sum(loads) == overlap * len(comparisons)  # with the line above: nobody has one twice
    assert max(loads) - min(loads) <= 1
    assert assign(comparisons[::-1], annotators[::-1], overlap, seed) == lists

    who = {one.id: {person for person, own in lists.items() if one.id in own} for one in comparisons}
    originals = {(one.candidate, one.baseline): one for one in comparisons if one.role == "normal"}
    repeats = [one for one in comparisons if one.role == "repeat"]
    strayed = 0
    for again in repeats:
        first = originals[again.candidate, again.baseline].id
        strayed += who[first] != who[again.id]
        for person in who[first] & who[again.id]:
            gap = lists[person].index(again.id) - lists[person].index(first)
            if who[first] == who[again.id]:
                assert gap == len(lists[person]) // 2
    assert strayed <= people / 2
    if repeat < 0.4 and len(comparisons) > 4 * people:
        assert strayed == 0


def test_assign_mixes_the_teams_and_the_orders():
    comparisons = versus("study", whole("new", 12, 4), whole("old", 12, 4), 5).comparisons
    lists = assign(comparisons, ["a", "b", "c", "d"], 2, 3)
    for one, other in combinations(lists, 2):
        assert set(lists[one]) & set(lists[other])  # any two people can be compared
    common = [one for one in lists["a"] if one in lists["b"]]
    assert common != [one for one in lists["b"] if one in lists["a"]]
    assert assign(comparisons, ["a", "b", "c", "d"], 2, 4) != lists


@pytest.mark.parametrize(("people", "overlap"), [(["a", "b"], 3), (["a"], 0), ([], 1), (["a", "a"], 1)])
def test_assign_refuses_what_it_cannot_do(people, overlap):
    with pytest.raises(DataError):
        assign([], people, overlap, 0)


def test_blind_names_are_stable_distinct_and_need_the_salt():
    comparisons = versus("study", whole("new", 12, 2), whole("old", 12, 2), 0, repeat=1).comparisons
    salts = (b"0123456789abcdef", b"0123456789abcdeg")
    names = [blind_name(one.id, side, salt) for salt in salts for one in comparisons for side in Side]
    assert len(set(names)) == len(names)  # the repeat of a sample has another name than its first showing
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in names)
    assert blind_name(comparisons[0].id, Side.LEFT, salts[0]) == names[0]
    with pytest.raises(DataError, match="guessed"):
        blind_name(comparisons[0].id, Side.LEFT, b"short")
