import choix
import evalica
import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import t

from palate.errors import DataError
from palate.stats.estimate import two_way
from palate.stats.rating import ELO, SIDE, fit
from palate.stats.ties import curve
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
    assert ratings.effects[SIDE].value == pytest.approx(found.x[6], abs=1e-4)
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
    for mine, theirs in zip(
        (*one.strength, one.tie, one.effects[SIDE]), (*other.strength, other.tie, other.effects[SIDE])
    ):
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


def test_one_system_or_no_number_is_not_rated():
    with pytest.raises(DataError, match="one system"):
        fit([0, 0], [0, 0], [1, -1], [0, 1], systems=["a"])
    with pytest.raises(DataError, match="not good"):
        fit([0, 1], [1, 0], [1, np.nan], [0, 1], systems=["a", "b"])


def test_ties_bound_a_system_that_never_lost():
    rows = [(0, 1, 1), (0, 1, -1), (0, 1, 0), (1, 2, 0), (0, 2, 1)]
    candidate, baseline, outcome = np.array(rows).T
    ratings = fit(candidate, baseline, outcome, np.arange(5), systems=list("abc"))
    assert all(abs(one.value) < 5 for one in ratings.strength)


def test_a_side_effect_needs_both_orders():
    rng = np.random.default_rng(5)
    outcome, prompt = rng.integers(-1, 2, 40), np.arange(40)
    for side in (np.ones(40, int), np.zeros(40, int)):
        with pytest.raises(DataError, match="standing on the left"):
            fit(np.zeros(40, int), np.ones(40, int), outcome, prompt, systems=["a", "b"], side=side)


def test_no_clusters_no_interval():
    ratings = fit([0, 0, 0], [1, 1, 1], [1, 0, -1], [0, 0, 0], [0, 0, 0], systems=["a", "b"])
    assert ratings.strength[0].low is None
    assert ratings.elo[0].high is None
    assert ratings.ranks == ((1, 2), (1, 2))


def rao_kupper_verdicts(rng, strengths, n, tie=0.9, gain=0.0):
    """n verdicts of the Rao-Kupper model with log k = `tie`, and a covariate that adds `gain` a unit."""
    k = len(strengths)
    candidate = rng.integers(0, k, n)
    baseline = (candidate + rng.integers(1, k, n)) % k
    longer = rng.integers(-2, 3, n) / 2
    x = strengths[candidate] - strengths[baseline] + gain * longer
    drawn = rng.random(n)
    good, bad = 1 / (1 + np.exp(tie - x)), 1 / (1 + np.exp(tie + x))
    return candidate, baseline, (drawn < good).astype(int) - (drawn > 1 - bad), rng.integers(0, n // 5, n), longer


def test_rao_kupper_matches_a_general_optimiser():
    rng = np.random.default_rng(6)
    candidate, baseline, outcome, prompt, _ = rao_kupper_verdicts(rng, rng.normal(size=5), 800)
    ratings = fit(candidate, baseline, outcome, prompt, systems=list("abcde"), ties="rao_kupper")

    def loss(p):
        x, k = p[candidate] - p[baseline], np.exp(p[5])
        good, bad = 1 / (1 + k * np.exp(-x)), 1 / (1 + k * np.exp(x))
        return -np.log(np.stack([good, 1 - good - bad, bad])[1 - outcome, np.arange(800)]).sum()

    found = minimize(loss, np.append(np.zeros(5), 0.5), method="BFGS", options={"gtol": 1e-6})
    assert [one.value for one in ratings.strength] == pytest.approx(found.x[:5] - found.x[:5].mean(), abs=1e-4)
    assert ratings.tie.value == pytest.approx(found.x[5], abs=1e-4)
    assert ratings.log_likelihood == pytest.approx(-found.fun, rel=1e-8)
    assert ratings.tie.low < 0.9 < ratings.tie.high
    assert "Rao-Kupper" in ratings.tie.method


@pytest.mark.parametrize("ties", ["davidson", "rao_kupper"])
@pytest.mark.parametrize("t", [None, 0.3, 1.7])
def test_slopes_and_curvatures_of_the_models_of_ties(ties, t):
    """By finite differences; and the kinds' probabilities add up to one."""
    x, e = np.linspace(-4, 4, 9), 1e-5
    at = curve(ties, x, t)
    assert np.exp(at.log).sum(0) == pytest.approx(1)
    up, down = curve(ties, x + e, t), curve(ties, x - e, t)
    assert (up.log - down.log) / (2 * e) == pytest.approx(at.x, abs=1e-7)
    assert (down.x - up.x) / (2 * e) == pytest.approx(at.xx, abs=1e-7)
    if t is not None:
        up, down = curve(ties, x, t + e), curve(ties, x, t - e)
        assert (up.log - down.log) / (2 * e) == pytest.approx(at.t, abs=1e-7)
        assert (down.x - up.x) / (2 * e) == pytest.approx(at.xt, abs=1e-7)
        assert (down.t - up.t) / (2 * e) == pytest.approx(at.tt, abs=1e-7)


def test_style_is_taken_out():
    """Two equal systems, of which one makes longer videos, and people who like length."""
    rng = np.random.default_rng(7)
    candidate, baseline, outcome, prompt, longer = rao_kupper_verdicts(rng, np.zeros(2), 4000, gain=0.8)
    keep = rng.random(4000) < np.where((longer > 0) == (candidate == 0), 1, 0.3)
    columns = [one[keep] for one in (candidate, baseline, outcome, prompt)]
    naive = fit(*columns, systems=["a", "b"])
    assert naive.strength[0].low > 0.05
    fair = fit(*columns, systems=["a", "b"], covariates={"length": longer[keep]}, ties="rao_kupper")
    assert fair.strength[0].low < 0 < fair.strength[0].high
    assert fair.effects["length"].low < 0.8 < fair.effects["length"].high
    with pytest.raises(DataError, match="length is not known"):
        fit(*columns, systems=["a", "b"], covariates={"length": np.full(keep.sum(), np.nan)})
    with pytest.raises(DataError, match="length cannot be told"):
        fit(*columns, systems=["a", "b"], covariates={"length": np.zeros(keep.sum())})


def test_variances_of_all_differences_at_once_are_those_of_each():
    generator = np.random.default_rng(0)
    scores, directions = generator.normal(size=(60, 5)), generator.normal(size=(4, 5))
    clusters = generator.integers(9, size=60), generator.integers(5, size=60)
    for sampling in (two_way(scores, *clusters), two_way(scores, clusters[0], None)):
        each = sampling.variance(directions[:, None, :] - directions[None, :, :])
        assert sampling.differences(directions) == pytest.approx(each, abs=1e-9)


def test_ranks_at_once_and_as_lmarena_counts():
    rng = np.random.default_rng(8)
    strengths = np.linspace(0.6, -0.6, 6)
    ratings = fit(*verdicts(rng, strengths, 1500)[:4], systems=list("abcdef"))
    for (best, worst), (first, last) in zip(ratings.ranks, ratings.ranks_at_once):
        assert first <= best <= worst <= last
    assert ratings.ranks != ratings.ranks_at_once
    for one, rank in zip(ratings.strength, ratings.arena_ranks):
        assert rank == 1 + sum(other.low > one.high for other in ratings.strength)
    equal = [fit(*verdicts(rng, np.zeros(6), 600)[:4], systems=list("abcdef")) for _ in range(60)]
    # With no difference at all, a table with any order in it is wrong: seldom at once, often pair by pair.
    assert np.mean([one.ranks_at_once != ((1, 6),) * 6 for one in equal]) < 0.12
    assert np.mean([one.ranks != ((1, 6),) * 6 for one in equal]) > 0.2


def test_without_prompts_there_are_no_intervals():
    columns = verdicts(np.random.default_rng(9), np.array([0.5, 0, -0.5]), 300)
    bare, full = fit(*columns[:3], systems=list("abc")), fit(*columns[:4], systems=list("abc"))
    assert [one.value for one in bare.strength] == [one.value for one in full.strength]
    assert bare.strength[0].low is None
    assert bare.arena_ranks == (None,) * 3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_bradley_terry_is_evalicas_and_choixs(seed):
    rng = np.random.default_rng(seed)
    candidate, baseline, outcome, _, _ = verdicts(rng, rng.normal(0, 0.5, 4), 400)
    won = outcome != SAME
    candidate, baseline, outcome = candidate[won], baseline[won], outcome[won]
    ours = [one.value for one in fit(candidate, baseline, outcome, systems=list("abcd")).strength]
    winners = [evalica.Winner.X if one == GOOD else evalica.Winner.Y for one in outcome]
    names = np.array(list("abcd"))
    theirs = evalica.bradley_terry(
        names[candidate].tolist(), names[baseline].tolist(), winners, tolerance=1e-12, limit=10_000
    ).scores
    logs = np.log(theirs[list("abcd")].to_numpy())
    assert ours == pytest.approx(logs - logs.mean(), abs=1e-5)
    pairs = np.where((outcome == GOOD)[:, None], np.stack([candidate, baseline], 1), np.stack([baseline, candidate], 1))
    again = choix.ilsr_pairwise(4, pairs.tolist(), max_iter=1000)
    assert ours == pytest.approx(again - again.mean(), abs=1e-5)


def test_robust_intervals_are_statsmodels():
    """A logistic regression with prompts as clusters; its small-sample factor aside, the covariances are the same."""
    rng = np.random.default_rng(10)
    columns = verdicts(rng, np.array([0.6, 0.1, -0.7]), 900)[:4]
    candidate, baseline, outcome, prompt = (one[columns[2] != SAME] for one in columns)
    x = np.eye(3)[candidate] - np.eye(3)[baseline]
    design = x[:, :2] - x[:, 2:]  # the third strength is minus the others' sum
    model = sm.Logit(outcome == GOOD, design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": prompt})
    ours = fit(candidate, baseline, outcome, prompt, systems=list("abc"))
    groups, n = len(np.unique(prompt)), len(outcome)
    assert [one.value for one in ours.strength[:2]] == pytest.approx(model.params)
    half = np.array([(one.high - one.low) / 2 for one in ours.strength[:2]]) / t.ppf(0.975, groups - 1)
    assert half * np.sqrt((n - 1) / (n - 2)) == pytest.approx(model.bse, rel=1e-6)
