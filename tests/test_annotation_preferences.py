"""Policies on hand-made cases, and what must hold of any votes."""

from itertools import cycle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.design import advance, knockout_round
from annotation.preferences import Policy, contrasts, preferences, standing
from annotation.simulate import Population, Taste
from palate.records import Case, Comparison, Judgement, Preference, Sample, Side, Verdict

CASE = Case(suite="suite", prompt="prompt").id
SAMPLES = sorted(Sample(case=CASE, system="new", seed=seed).id for seed in range(8))
A, B, C, D = SAMPLES[:4]


def compare(one: str = A, other: str = B, side: Side = Side.LEFT, role: str = "normal", study: str = "s") -> Comparison:
    return Comparison.model_validate(
        {"study": study, "case": CASE, "candidate": one, "baseline": other, "candidate_side": side, "role": role}
    )


SHOWN = compare()


def vote(
    verdict: Verdict | str | None,
    person: int = 0,
    comparison: Comparison = SHOWN,
    supersedes: Judgement | None = None,
    simulated: bool = False,
) -> Judgement:
    return Judgement(
        comparison=comparison.id,
        annotator=f"person {person}",
        simulated=simulated,
        source="test",
        verdicts={} if verdict is None else {"overall": Verdict(verdict)},
        skip="did not load" if verdict is None else None,
        supersedes=supersedes.id if supersedes else None,
    )


def votes(text: str, comparison: Comparison = SHOWN) -> list[Judgement]:
    """One person for each letter: good, same, bad, x for both bad, - for a skip."""
    names = {"g": "good", "s": "same", "b": "bad", "x": "both_bad", "-": None}
    return [vote(names[letter], person, comparison) for person, letter in enumerate(text)]


def outcome(given: list[Judgement], **policy: object) -> tuple[str, float] | None:
    """Winner and weight of the one preference on A against B, or None."""
    found = preferences([SHOWN], given, Policy.model_validate(policy))
    assert len(found) <= 1
    return (found[0].winner, pytest.approx(found[0].weight)) if found else None


@pytest.mark.parametrize(
    ("text", "share_count", "share_drop", "majority_count", "majority_drop"),
    [
        ("ggg", (A, 1), (A, 1), (A, 1), (A, 1)),
        ("ggb", (A, 1 / 3), (A, 1 / 3), (A, 1), (A, 1)),
        ("bbbg-", (B, 1 / 2), (B, 1 / 2), (B, 1), (B, 1)),
        ("gss", (A, 1 / 3), (A, 1), None, (A, 1)),
        ("ggss", (A, 1 / 2), (A, 1), None, (A, 1)),
        ("gggss", (A, 3 / 5), (A, 1), (A, 1), (A, 1)),
        ("ggbss", (A, 1 / 5), (A, 1 / 3), None, (A, 1)),
        ("gb", None, None, None, None),
        ("gbs", None, None, None, None),
        ("sss", None, None, None, None),
        ("---", None, None, None, None),
        ("", None, None, None, None),
        ("xxg", None, None, None, None),
        ("xgg", (A, 2 / 3), (A, 1), (A, 1), (A, 1)),
        ("xxgg", (A, 1 / 2), (A, 1), None, (A, 1)),
        ("xsbb-", (B, 1 / 2), (B, 1), None, (B, 1)),
    ],
)
def test_policies_by_hand(text, share_count, share_drop, majority_count, majority_drop):
    given = votes(text)
    assert outcome(given) == share_count
    assert outcome(given, ties="drop") == share_drop
    assert outcome(given, aggregation="majority") == majority_count
    assert outcome(given, aggregation="majority", ties="drop") == majority_drop


def test_fewest_votes_and_smallest_margin():
    assert outcome(votes("gg-"), votes=3) is None
    assert outcome(votes("ggs"), votes=3) == (A, 2 / 3)
    assert outcome(votes("ggs"), votes=3, ties="drop") is None
    assert outcome(votes("ggb"), margin=0.5) is None
    assert outcome(votes("gggb"), margin=0.5) == (A, 0.5)
    assert outcome(votes("ggb"), margin=0.5, aggregation="majority") is None


def test_superseded_judgements_and_what_replaced_them():
    first = vote("good")
    assert outcome([first, vote("bad", supersedes=first)]) == (B, 1)
    assert outcome([first, vote(None, supersedes=first)]) is None
    second = vote("bad", supersedes=first)
    assert outcome([first, second, vote("good", supersedes=second)]) == (A, 1)


def test_repeats_are_pooled_with_their_originals_whichever_side_stood_where():
    repeat = compare(side=Side.RIGHT, role="repeat")
    turned = compare(B, A)
    given = [*votes("gg"), *votes("b", repeat), *votes("b", turned)]
    (found,) = preferences([SHOWN, repeat, turned], given, Policy())
    assert (found.winner, found.loser, found.weight) == (A, B, 0.5)  # three for A, one against
    assert set(found.judgements) == {one.id for one in given}


def test_gold_other_comparisons_and_other_axes_give_nothing():
    gold, elsewhere = compare(role="gold"), compare(C, D)
    given = [*votes("gg", gold), *votes("gg", elsewhere)]
    assert preferences([SHOWN, gold], given, Policy()) == []
    assert preferences([SHOWN], votes("gg"), Policy(axis="motion_quality")) == []


def test_simulated_votes_are_never_pooled_with_peoples():
    found = preferences([SHOWN], [vote("good"), vote("bad", simulated=True)], Policy())
    assert {(one.winner, one.simulated, one.weight) for one in found} == {(A, False, 1.0), (B, True, 1.0)}


def test_the_policy_is_quoted():
    (found,) = preferences([SHOWN], votes("g"), Policy(aggregation="majority", ties="drop", votes=1, margin=0.25))
    assert found.policy == "majority; ties drop; votes >= 1; margin >= 0.25"


PAIRS = [compare(one, other, side) for one in SAMPLES[:3] for other in SAMPLES[:3] if one != other for side in Side]
VOTES = st.lists(
    st.builds(
        vote,
        st.one_of(st.none(), st.sampled_from(list(Verdict))),
        st.integers(0, 4),
        st.sampled_from(PAIRS),
        simulated=st.booleans(),
    ),
    max_size=40,
)
POLICIES = st.builds(
    Policy,
    aggregation=st.sampled_from(["vote_share", "majority"]),
    ties=st.sampled_from(["count", "drop"]),
    votes=st.integers(1, 4),
    margin=st.sampled_from([0, 0.25, 1]),
)


@given(VOTES, POLICIES, st.randoms())
@settings(max_examples=150, deadline=None)
def test_order_doubling_and_turning_the_sides_change_no_preference(given_votes, policy, chance):
    found = preferences(PAIRS, given_votes, policy)
    keys = [(frozenset((one.winner, one.loser)), one.simulated) for one in found]
    assert len(set(keys)) == len(keys)  # one at most for each pair, and never both ways

    shuffled = given_votes * 2
    chance.shuffle(shuffled)
    assert preferences(PAIRS[::-1], shuffled, policy) == found

    turned = {one.id: compare(one.baseline, one.candidate, one.candidate_side) for one in PAIRS}
    mirrored = [
        vote(
            next(iter(one.verdicts.values())).swapped if one.verdicts else None,
            int(one.annotator[-1]),
            turned[one.comparison],
            simulated=one.simulated,
        )
        for one in given_votes
    ]
    again = preferences(turned.values(), mirrored, policy)
    assert {(one.winner, one.loser, one.weight) for one in again} == {
        (one.winner, one.loser, one.weight) for one in found
    }


def beats(winner: str, loser: str, weight: float = 1.0, axis: str = "overall") -> Preference:
    judgement = vote("good", comparison=compare(winner, loser)).id
    return Preference(
        study="study",
        case=CASE,
        axis=axis,
        winner=winner,
        loser=loser,
        weight=weight,
        policy="test",
        judgements=(judgement,),
        simulated=False,
    )


def links(found: list[Preference]) -> dict[tuple[str, str], float]:
    return {(one.winner, one.loser): one.weight for one in found}


def test_contrasts_follow_the_winner_down():
    a, b, c, d, e, f, g, h = SAMPLES
    games = [beats(a, b, 0.5), beats(c, d), beats(e, f, 0.8), beats(g, h), beats(a, c), beats(e, g), beats(a, e, 0.5)]
    found = contrasts(games, 7)
    expected = {b: 0.5, c: 1.0, d: 1.0, e: 0.5, f: 0.4, g: 0.5, h: 0.5}
    assert links(found) == pytest.approx({(a, loser): weight for loser, weight in expected.items()})
    through = next(one for one in found if one.loser == h)
    assert set(through.judgements) == {game.judgements[0] for game in (games[6], games[5], games[3])}
    assert {one.policy for one in found} == {"test; knockout"}
    assert links(contrasts(games[::-1], 3)) == {(a, d): 1.0, (a, c): 1.0, (a, h): 0.5}


def test_contrasts_of_a_tied_group_and_of_a_circle_are_none():
    assert contrasts([], 3) == []
    assert contrasts([beats(A, B), beats(B, C), beats(C, A)], 3) == []


def test_contrasts_stop_where_a_coin_decided():
    last = SAMPLES[4]
    games = [beats(A, B, 0.4), beats(C, D), beats(A, last, 0.4)]  # A and C tied; the coin is nobody's loss
    assert links(contrasts(games, 5)) == {(A, B): 0.4, (A, last): 0.4}
    assert links(contrasts([beats(A, B, 0.4), beats(C, D)], 5)) == {(C, D): 1.0}


def test_contrasts_take_the_heavier_of_two_chains_and_chain_within_one_axis_only():
    found = contrasts([beats(A, B, 0.9), beats(B, D, 0.9), beats(A, C, 0.5), beats(C, D, 1.0)], 5)
    assert links(found) == pytest.approx({(A, B): 0.9, (A, C): 0.5, (A, D): 0.81})
    apart = contrasts([beats(A, B), beats(B, C, axis="motion_quality")], 5)
    assert {(one.axis, one.winner, one.loser) for one in apart} == {("overall", A, B), ("motion_quality", B, C)}


def test_best_against_beaten_is_a_wider_and_surer_contrast_than_a_random_pair():
    chance = np.random.default_rng(0)
    cases = [Case(suite="suite", prompt=f"prompt {number}").id for number in range(150)]
    samples = {case: [Sample(case=case, system="new", seed=seed).id for seed in range(8)] for case in cases}
    quality = {one: float(chance.normal(0.6, 0.15)) for case in cases for one in samples[case]}
    features = {one: {"prompt": value} for one, value in quality.items()}
    people = Population(Taste(weights={"overall": {"prompt": 8.0}}), 6, 0)
    entrants, shown, given = samples, [], []
    rounds: list[list[Preference]] = []
    while pairs := knockout_round("knockout", entrants, 0):
        jobs = zip(pairs, cycle(people.annotators))
        answers = [people.judge(one, features, person) for one, person in jobs]
        rounds.append(preferences(pairs, answers, Policy()))
        entrants = advance(entrants, pairs, rounds[-1], 0)
        shown, given = shown + pairs, given + answers
    assert len(shown) == 7 * 150

    def gaps(found: list[Preference]) -> np.ndarray:
        return np.array([quality[one.winner] - quality[one.loser] for one in found])

    random, chosen = gaps(rounds[0]), gaps(contrasts(preferences(shown, given, Policy()), 3))
    assert len(chosen) > 350
    assert (random > 0).mean() < 0.83  # four random pairs a case, one vote each
    assert (chosen > 0).mean() > 0.87
    assert chosen.mean() > 1.25 * random.mean()


@settings(max_examples=50)
@given(st.text("gsbx-", min_size=1, max_size=6), st.text("gsb", min_size=1, max_size=3), st.booleans())
def test_a_preference_stands_until_somebody_says_something_else_of_its_samples(first, second, chained):
    other, twin = compare(B, C), compare(A, B, Side.RIGHT, role="repeat")
    everything, given = [SHOWN, other, twin], votes(first) + votes(second, other)

    def concluded(given: list[Judgement]) -> list[Preference]:
        found = preferences(everything, given, Policy())
        return contrasts(found, 3) if chained else found

    found = concluded(given)
    assert standing(found, everything, given) == found
    for late in (
        vote("good", 9),
        vote("good", 9, twin),
        vote("bad", 0, supersedes=given[0]),
        vote(None, 0, SHOWN, given[0]),
    ):
        now = [*given, late]
        kept = standing(found, everything, now)
        if late.supersedes is None or given[0].verdicts:
            assert kept == [one for one in found if {one.winner, one.loser} == {B, C}]
        assert standing(concluded(now), everything, now) == concluded(now)
    assert standing(found, everything, [*given, vote("good", 9, compare(role="gold"))]) == found
    assert standing(found, everything, [*given, vote("good", 9, simulated=True)]) == found
