import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from palate.errors import DataError
from palate.stats import estimate as clusters
from palate.stats.estimate import two_way
from palate.stats.wins import Form, analytic, bootstrap, gsb_from_counts, holm, majority, net_p_value, pooled, weighted

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "data" / "published" / "klingavatar2_gsb.json"


def crossed(rng, prompts=60, annotators=12, votes=5, lean=0.3, spread=0.6):
    """Verdicts from a threshold model with prompt and annotator effects, and the true net over both populations."""
    prompt = np.repeat(np.arange(prompts), votes)
    annotator = np.concatenate([rng.choice(annotators, votes, replace=False) for _ in range(prompts)])
    effects = rng.normal(0, spread, prompts)[prompt] + rng.normal(0, spread, annotators)[annotator]
    liking = lean + effects + rng.normal(size=len(prompt))
    outcome = np.where(liking > 0.5, 1, np.where(liking < -0.5, -1, 0))
    total = np.sqrt(1 + 2 * spread**2)
    return outcome, prompt, annotator, norm.sf((0.5 - lean) / total) - norm.cdf((-0.5 - lean) / total)


def bounds(estimate):
    return estimate.value, estimate.low, estimate.high


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published triples are not beside this checkout")
def test_published_ratios_follow_from_their_triples():
    cases = json.loads(PUBLISHED.read_text())["cases"]
    assert len(cases) == 11
    for case in cases:
        assert gsb_from_counts(case["G"], case["S"], case["B"])[Form.RATIO] == pytest.approx(
            case["published"], abs=0.01
        )


def test_the_four_forms_of_known_counts():
    assert gsb_from_counts(5, 3, 2) == {
        Form.RATIO: 8 / 5,
        Form.NET: 3 / 10,
        Form.WIN_RATE: 5 / 7,
        Form.NOT_WORSE: 8 / 10,
    }
    assert gsb_from_counts(5, 0, 0)[Form.RATIO] is None
    assert gsb_from_counts(0, 5, 0)[Form.WIN_RATE] is None
    for counts in ((0, 0, 0), (1, -1, 1), (float("nan"), 1, 1)):
        with pytest.raises(DataError):
            gsb_from_counts(*counts)


def test_net_has_the_two_way_standard_error_of_statsmodels():
    outcome, prompt, annotator, _ = crossed(np.random.default_rng(1))
    fit = OLS(outcome, np.ones(len(outcome))).fit()
    expected = cov_cluster_2groups(fit, prompt, annotator)[0].item()
    ballots = pooled(outcome, prompt, annotator)
    estimate = analytic(ballots, Form.NET)
    assert estimate.value == pytest.approx(outcome.mean())
    half = ballots.sampling.quantile(0.95) * np.sqrt(expected)
    assert estimate.high == pytest.approx(estimate.value + half, rel=1e-9)
    assert estimate.clusters == {"prompts": 60, "annotators": 12}


def test_one_verdict_a_prompt_is_the_textbook_interval():
    """Without annotators and with one verdict a prompt, the net's variance is s^2 / n."""
    outcome = np.array([1, 1, 1, 0, 0, -1, 1, 0])
    ballots = pooled(outcome, np.arange(8))
    half = ballots.sampling.quantile(0.95) * outcome.std(ddof=1) / np.sqrt(8)
    mean = outcome.mean()
    assert bounds(analytic(ballots, Form.NET)) == pytest.approx((mean, mean - half, mean + half))


@pytest.mark.parametrize("form", list(Form))
def test_delta_method_agrees_with_a_numerical_derivative(form):
    """Oracle: jackknife-like influence of each verdict by finite differences of the form on its link scale."""
    outcome, prompt, annotator, _ = crossed(np.random.default_rng(2), prompts=30)
    ballots = pooled(outcome, prompt, annotator)
    link = {Form.RATIO: np.log, Form.NET: lambda v: v}.get(form, lambda v: np.log(v / (1 - v)))

    def linked(totals):
        return link(gsb_from_counts(*totals)[form])

    slope = np.array([(linked(ballots.totals + h) - linked(ballots.totals - h)) / 2e-4 for h in np.eye(3) * 1e-4])
    half = ballots.sampling.quantile(0.95) * np.sqrt(ballots.sampling.variance(slope))
    estimate = analytic(ballots, form)
    assert link(estimate.high) - link(estimate.value) == pytest.approx(half, rel=1e-5)
    assert link(estimate.value) - link(estimate.low) == pytest.approx(half, rel=1e-5)


@pytest.mark.parametrize("method", [analytic, bootstrap])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_swapping_the_systems(method, seed):
    outcome, prompt, annotator, _ = crossed(np.random.default_rng(seed), prompts=20, annotators=6, votes=4)
    ours, theirs = pooled(outcome, prompt, annotator), pooled(-outcome, prompt, annotator)
    value, low, high = bounds(method(ours, Form.NET))
    assert bounds(method(theirs, Form.NET)) == pytest.approx((-value, -high, -low))
    value, low, high = bounds(method(ours, Form.RATIO))
    assert bounds(method(theirs, Form.RATIO)) == pytest.approx((1 / value, 1 / high, 1 / low))
    value, low, high = bounds(method(ours, Form.WIN_RATE))
    assert bounds(method(theirs, Form.WIN_RATE)) == pytest.approx((1 - value, 1 - high, 1 - low))
    assert net_p_value(ours) == pytest.approx(net_p_value(theirs))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), form=st.sampled_from(list(Form)))
def test_order_labels_and_common_scale_change_nothing(seed, form):
    rng = np.random.default_rng(seed)
    outcome, prompt, annotator, _ = crossed(rng, prompts=20, annotators=6, votes=4)
    expected = bounds(analytic(pooled(outcome, prompt, annotator), form))
    shuffled = rng.permutation(len(outcome))
    names = np.array([f"person {9 - code}" for code in annotator])
    assert bounds(analytic(pooled(outcome[shuffled], prompt[shuffled], names[shuffled]), form)) == pytest.approx(
        expected
    )
    threes = weighted(outcome, prompt, annotator, np.full(len(outcome), 3.0))
    assert bounds(analytic(threes, form)) == pytest.approx(expected)
    # the same verdicts written down twice are no new evidence
    twice = pooled(np.tile(outcome, 2), np.tile(prompt, 2), np.tile(annotator, 2))
    assert bounds(analytic(twice, form)) == pytest.approx(expected)


def test_weights_move_the_counts():
    ballots = weighted([1, 1, -1], [0, 1, 2], [0, 0, 1], [1, 1, 4])
    assert analytic(ballots, Form.NET).value == pytest.approx((2 - 4) / 6)
    assert analytic(ballots, Form.NET).method.startswith("weighted")
    with pytest.raises(DataError):
        weighted([1], [0], [0], [0.0])


def test_majority_is_the_sign_of_the_sum():
    ballots = majority([1, 1, -1, 1, -1, -1, 0, 0], [7, 7, 7, 7, 7, 8, 8, 8], [0, 0, 0, 1, 1, 2, 2, 2])
    assert ballots.outcome.tolist() == [1, 0, -1]
    assert ballots.prompt.tolist() == [7, 7, 8]
    estimate = analytic(ballots, Form.NET)
    assert estimate.n == 3
    assert "annotators" not in estimate.clusters
    assert "annotators are aggregated" in estimate.note


def test_two_way_intervals_cover_the_truth():
    """200 studies of 60 prompts and 12 annotators, all with effects of their own: 90-98% of the 95% intervals hold."""
    rng = np.random.default_rng(3)
    hits = {"analytic": 0, "verdicts as if independent": 0}
    for _ in range(200):
        outcome, prompt, annotator, truth = crossed(rng)
        estimate = analytic(pooled(outcome, prompt, annotator), Form.NET)
        hits["analytic"] += estimate.low <= truth <= estimate.high
        half = 1.96 * outcome.std() / np.sqrt(len(outcome))
        hits["verdicts as if independent"] += abs(outcome.mean() - truth) <= half
    assert 0.90 <= hits["analytic"] / 200 <= 0.98
    assert hits["verdicts as if independent"] / 200 < 0.75


def test_bootstrap_agrees_with_the_analytic_interval():
    outcome, prompt, annotator, _ = crossed(np.random.default_rng(4), prompts=150, annotators=40, votes=8)
    ballots = pooled(outcome, prompt, annotator)
    for form in Form:
        one, two = analytic(ballots, form), bootstrap(ballots, form, replicates=2000, seed=5)
        assert two.value == pytest.approx(one.value)
        assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.2)
    assert bootstrap(ballots, Form.NET, seed=5) == bootstrap(ballots, Form.NET, seed=5)
    assert bootstrap(ballots, Form.NET, seed=6) != bootstrap(ballots, Form.NET, seed=5)


def test_one_annotator_is_no_sample_of_annotators():
    outcome, prompt, _, _ = crossed(np.random.default_rng(5))
    alone = analytic(pooled(outcome, prompt, np.zeros(len(outcome))), Form.NET)
    unknown = analytic(pooled(outcome, prompt), Form.NET)
    assert bounds(alone) == bounds(unknown)
    assert "one annotator" in alone.note
    assert "annotators are unknown" in unknown.note
    assert alone.clusters == {"prompts": 60, "annotators": 1}
    assert unknown.clusters == {"prompts": 60}


def test_one_prompt():
    estimate = analytic(pooled([1, 0, 1, -1], [0, 0, 0, 0], [0, 1, 2, 3]), Form.NET)
    assert estimate.low < 0.25 < estimate.high
    assert "one prompt" in estimate.note
    nobody = analytic(pooled([1, 0, 1, -1], [0, 0, 0, 0], [0, 0, 0, 0]), Form.NET)
    assert bounds(nobody) == (0.25, None, None)
    assert nobody.note
    assert net_p_value(pooled([1, 0, 1, -1], [0, 0, 0, 0], [0, 0, 0, 0])) is None


def test_no_bad_verdict_leaves_the_win_rate_bounded_by_the_exact_binomial():
    share = 1 - 0.025 ** (1 / 50)  # the two-sided 95% Clopper-Pearson bound for none of 50
    for method in (analytic, bootstrap):
        ballots = pooled(np.ones(50, dtype=int), np.arange(50), np.arange(50) % 5)
        assert bounds(method(ballots, Form.NOT_WORSE)) == pytest.approx((1, 1 - share, 1))
        assert bounds(method(ballots, Form.NET)) == pytest.approx((1, 1 - 2 * share, 1))
        assert bounds(method(ballots, Form.RATIO)) == (None, pytest.approx((1 - share) / share), None)
        assert "same or bad" in method(ballots, Form.RATIO).note
    lost = pooled(-np.ones(50, dtype=int), np.arange(50), np.arange(50) % 5)
    assert bounds(analytic(lost, Form.RATIO)) == pytest.approx((0, 0, share / (1 - share)))
    assert net_p_value(lost) == pytest.approx(2 * 0.5**50)
    tied = pooled(np.zeros(50, dtype=int), np.arange(50), np.arange(50) % 5)
    assert bounds(analytic(tied, Form.WIN_RATE)) == (None, None, None)
    assert bounds(analytic(tied, Form.RATIO)) == pytest.approx((1, 1 - share, 1 / (1 - share)))
    assert net_p_value(tied) == 1


def test_nothing_varies_is_not_certainty():
    """Two prompts, each with one win and one loss by one person: every cluster is alike, which proves nothing."""
    ballots = pooled([1, -1, 1, -1], [0, 0, 1, 1], [0, 0, 0, 0])
    for method in (analytic, bootstrap):
        assert bounds(method(ballots, Form.NET)) == (0, None, None)


def test_an_interval_too_wide_for_a_float_is_still_one():
    estimate = analytic(pooled([1, -1, -1, -1], [0, 1, 1, 1]), Form.RATIO, level=0.9999)
    assert 0 <= estimate.low < 1 / 3 < estimate.high


def test_what_cannot_be_counted():
    with pytest.raises(DataError, match="no verdicts"):
        pooled([], [])
    with pytest.raises(DataError, match="no verdicts"):
        majority([], [], [])
    with pytest.raises(DataError, match="not good"):
        pooled([1, 22], [0, 1])
    with pytest.raises(DataError, match="not good"):
        pooled([1, np.nan], [0, 1])
    for weight in (np.nan, np.inf, -1):
        with pytest.raises(DataError, match="not a positive number"):
            weighted([1, 0], [0, 1], [0, 1], [1, weight])


def test_holm_matches_statsmodels():
    p = np.random.default_rng(6).uniform(size=9) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]).shape == (0,)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30))
def test_any_verdicts_give_a_value_inside_its_interval_or_a_reason(rows):
    outcome, prompt, annotator = (np.array(column) for column in zip(*rows))
    for form in Form:
        for estimate in (
            analytic(pooled(outcome, prompt, annotator), form),
            bootstrap(pooled(outcome, prompt, annotator), form, replicates=50),
        ):
            if estimate.value is None or estimate.low is None or estimate.high is None:
                assert estimate.note
            else:
                assert estimate.low <= estimate.high
            if form is not Form.RATIO and estimate.low is not None:
                assert -1 <= estimate.low <= estimate.high <= 1


def test_two_way_variance_is_never_below_its_parts():
    scores = np.array([[1.0], [-1.0], [-1.0], [1.0]])  # every prompt's and every annotator's sum is zero
    sampling = two_way(scores, [0, 0, 1, 1], [0, 1, 0, 1])
    assert sampling.variance(np.ones(1)) == pytest.approx(4 / 3 * 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 200), st.integers(1, 60), st.sampled_from([0, 1 << 20]))
def test_clusters_are_summed_alike_however_many(seed, n, spread, fits):
    """The three ways of summing (a table, pairs, a table of sorted clusters), against a loop."""
    rng = np.random.default_rng(seed)
    scores, row = rng.normal(size=(7, 3)) * (rng.random((7, 3)) < 0.6), rng.integers(0, 7, n)
    prompt, annotator = rng.integers(0, spread, n) * 3 - 5, rng.choice(["ann", "bob", "cy"], n).astype(object)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "_FITS", fits)
        found = two_way(scores, prompt, annotator, row=row)
    both = list(zip(prompt.tolist(), annotator.tolist()))
    for outer, labels in ((found.by_prompt, prompt), (found.by_annotator, annotator), (found.by_both, both)):
        sums = {label: np.zeros(3) for label in labels}
        for label, one in zip(labels, row):
            sums[label] = sums[label] + scores[one]
        expected = sum(np.outer(one, one) for one in sums.values()) * len(sums) / max(len(sums) - 1, 1)
        assert outer == pytest.approx(expected)
