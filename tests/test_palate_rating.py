import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import t

from palate.errors import DataError
from palate.stats.rating import ELO, fit
from palate.stats.wins import GOOD, SAME


def verdicts(rng, strengths, n, tie=0.2, side_effect=0.0, prompt_effect=None):
    """n verdicts of the Davidson model: candidate, baseline, outcome, prompt, side."""
    k = len(strengths)
    candidate = rng.integers(0, k, n)
    baseline = (candidate + rng.integers(1, k, n)) % k
    side, prompt = rng.choice([-1, 1], n), rng.integers(0, n // 5, n)
    x = strengths[candidate] - strengths[baseline] + side_effect * side
    if prompt_effect is not None:  # how well each system does on each prompt
        x = x + prompt_effect[prompt, candidate] - prompt_effect[prompt, baseline]
    chance = np.exp(log_softmax(np.stack([x / 2, np.full(n, tie), -x / 2]), axis=0))
    drawn = rng.random(n)
    outcome = np.where(drawn < chance[0], 1, np.where(drawn < chance[0] + chance[1], 0, -1))
    return candidate, baseline, outcome, prompt, side


def test_two_systems_in_closed_form():
    """The model is saturated: the odds of good to bad and of same to both are those seen."""
    outcome = np.repeat([1, 0, -1], [30, 20, 10])
    ratings = fit(np.zeros(60, int), np.ones(60, int), outcome, np.arange(60), systems=["a", "b"])
    first, second = ratings.strength
    assert first.value - second.value == pytest.approx(np.log(30 / 10))
    assert ratings.tie.value == pytest.approx(np.log(20 / np.sqrt(30 * 10)))
    assert ratings.log_likelihood == pytest.approx(30 * np.log(1 / 2) + 20 * np.log(1 / 3) + 10 * np.log(1 / 6))
    # delta method: var(log(G / B)) = (1/G + 1/B) * n/(n-1), and each strength is half the difference
    half = (first.high - first.low) / 2
    assert half == pytest.approx(t.ppf(0.975, 59) * np.sqrt((1 / 30 + 1 / 10) * 60 / 59) / 2)
    assert ratings.elo[0].value - ratings.elo[1].value == pytest.approx(400 * np.log10(3))
    assert ratings.ranks == ((1, 1), (2, 2))


def test_matches_a_general_optimiser():
    rng = np.random.default_rng(0)
    candidate, baseline, outcome, prompt, side = verdicts(rng, rng.normal(size=5), 600, side_effect=0.4)
    ratings = fit(candidate, baseline, outcome, prompt, systems=list("abcde"), side=side)

    def loss(p):
        x = p[candidate] - p[baseline] + p[6] * side
        logits = np.stack([x / 2, np.full(600, p[5]), -x / 2])
        return -log_softmax(logits, axis=0)[1 - outcome, np.arange(600)].sum()

    found = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-6})
    theta = found.x[:5] - found.x[:5].mean()
    assert [one.value for one in ratings.strength] == pytest.approx(theta, abs=1e-4)
    assert ratings.tie.value == pytest.approx(found.x[5], abs=1e-4)
    assert ratings.side.value == pytest.approx(found.x[6], abs=1e-4)
    assert ratings.log_likelihood == pytest.approx(-found.fun, rel=1e-8)
    assert np.mean([one.value for one in ratings.elo]) == pytest.approx(1000)
    assert ratings.elo[2].value == pytest.approx(1000 + ELO * theta[2], abs=0.1)


def test_without_ties_it_is_plain_bradley_terry():
    rng = np.random.default_rng(1)
    candidate, baseline, outcome, prompt, _ = verdicts(rng, np.array([0.5, 0, -0.5]), 500)
    kept = outcome != SAME
    candidate, baseline, outcome, prompt = candidate[kept], baseline[kept], outcome[kept], prompt[kept]
    ratings = fit(candidate, baseline, outcome, prompt, systems=list("abc"))
    assert ratings.tie is None
    # Zermelo's fixed point, written independently
    wins = np.zeros((3, 3))
    np.add.at(wins, (np.where(outcome == GOOD, candidate, baseline), np.where(outcome == GOOD, baseline, candidate)), 1)
    strength = np.ones(3)
    for _ in range(2000):
        games = (wins + wins.T) / (strength[:, None] + strength[None, :])
        strength = wins.sum(1) / games.sum(1)
        strength /= np.exp(np.log(strength).mean())
    assert [one.value for one in ratings.strength] == pytest.approx(np.log(strength), abs=1e-8)


def test_swapping_candidate_and_baseline_changes_nothing():
    rng = np.random.default_rng(2)
    candidate, baseline, outcome, prompt, side = verdicts(rng, rng.normal(size=4), 400, side_effect=0.3)
    people = rng.integers(0, 9, 400)
    one = fit(candidate, baseline, outcome, prompt, people, systems=list("abcd"), side=side)
    flip = rng.random(400) < 0.5
    other = fit(
        np.where(flip, baseline, candidate),
        np.where(flip, candidate, baseline),
        np.where(flip, -outcome, outcome),
        prompt,
        people,
        systems=list("abcd"),
        side=np.where(flip, -side, side),
    )
    for mine, theirs in zip((*one.strength, one.tie, one.side), (*other.strength, other.tie, other.side)):
        assert (mine.value, mine.low, mine.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=1e-8)
    assert one.ranks == other.ranks


def test_intervals_cover_the_truth_where_prompts_have_tastes():
    """60 studies; systems differ by prompt, so verdicts of a prompt go together. Truth: a very large study's fit."""
    rng = np.random.default_rng(3)
    strengths = np.array([0.8, 0.2, -0.2, -0.8])

    def study(n):
        taste = rng.normal(0, 0.8, (n // 5, 4))
        candidate, baseline, outcome, prompt, _ = verdicts(rng, strengths, n, prompt_effect=taste)
        return fit(candidate, baseline, outcome, prompt, systems=list("abcd"))

    truth = [one.value for one in study(400_000).strength]
    hits = [one.low <= true <= one.high for _ in range(60) for one, true in zip(study(500).strength, truth)]
    assert 0.90 <= np.mean(hits) <= 0.99


def test_ranks_follow_the_differences():
    rng = np.random.default_rng(4)
    candidate, baseline, outcome, prompt, _ = verdicts(rng, np.array([2.0, 0.0, 0.0, -2.0]), 600)
    ratings = fit(candidate, baseline, outcome, prompt, systems=list("abcd"))
    assert ratings.ranks == ((1, 1), (2, 3), (2, 3), (4, 4))
    assert (ratings.order[0], ratings.order[-1]) == (0, 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no verdicts"),
        ([(0, 1, 1), (0, 1, -1), (2, 3, 1), (2, 3, -1)], "a and b never met"),
        ([(0, 1, 1), (0, 1, -1), (0, 2, 1), (1, 2, 1), (0, 3, 1), (3, 0, 1)], "a and b and d over the rest"),
        ([(0, 1, 1), (1, 2, 1), (2, 3, 1), (1, 3, -1)], "lead of a over"),
        ([(0, 1, 0), (1, 2, 0), (2, 3, 0)], "same kind"),
        ([(0, 1, 22)], "not good"),
    ],
)
def test_graphs_without_an_answer_are_explained(rows, message):
    candidate, baseline, outcome = np.array(rows, dtype=int).reshape(-1, 3).T
    with pytest.raises(DataError, match=message):
        fit(candidate, baseline, outcome, np.arange(len(rows)), systems=list("abcd"))


def test_ties_bound_a_system_that_never_lost():
    rows = [(0, 1, 1), (0, 1, -1), (0, 1, 0), (1, 2, 0), (0, 2, 1)]
    candidate, baseline, outcome = np.array(rows).T
    ratings = fit(candidate, baseline, outcome, np.arange(5), systems=list("abc"))
    assert all(abs(one.value) < 5 for one in ratings.strength)


def test_a_side_effect_needs_both_orders():
    rng = np.random.default_rng(5)
    outcome, prompt = rng.integers(-1, 2, 40), np.arange(40)
    for side in (np.ones(40, int), np.zeros(40, int)):
        with pytest.raises(DataError, match="side effect"):
            fit(np.zeros(40, int), np.ones(40, int), outcome, prompt, systems=["a", "b"], side=side)


def test_no_clusters_no_interval():
    ratings = fit([0, 0, 0], [1, 1, 1], [1, 0, -1], [0, 0, 0], [0, 0, 0], systems=["a", "b"])
    assert ratings.strength[0].low is None
    assert ratings.elo[0].high is None
    assert ratings.ranks == ((1, 2), (1, 2))
