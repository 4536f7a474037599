import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from palate.errors import DataError
from palate.stats.metric import accuracy, best_threshold, kendall, spearman, tied_accuracy

pairs = st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.integers(-3, 3)), min_size=1, max_size=40)


@given(pairs)
def test_the_threshold_is_the_best_that_can_be(drawn):
    """Against every threshold there is, one by one."""
    label, margin = np.array(drawn).T

    def right(threshold):
        return (np.where(np.abs(margin) > threshold, np.sign(margin), 0) == label).sum()

    found = best_threshold(label, margin)
    assert found in {0.0, *np.abs(margin).tolist()}
    assert right(found) == max(right(threshold) for threshold in (0, 1, 2, 3))


def test_equal_margins_stand_or_fall_together():
    """VideoAlign's code splits equal margins and reports 1.0 here, which no threshold reaches."""
    label, margin = np.tile([0, 1], 20), np.full(40, 0.5)
    found = tied_accuracy(label, margin, np.arange(40) // 2)
    assert found.accuracy.value == 0.5


def test_a_random_metric_is_not_flattered():
    """On the very pairs it is reported on, a threshold gives a random scorer 37.7% of 200; on held-out folds 33.3%."""
    held, same = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        label, margin = rng.integers(-1, 2, 200), rng.normal(size=200)
        held.append(tied_accuracy(label, margin, np.arange(200)).accuracy.value)
        threshold = best_threshold(label, margin)
        same.append((np.where(np.abs(margin) > threshold, np.sign(margin), 0) == label).mean())
    assert np.mean(same) == pytest.approx(0.377, abs=0.01)
    assert np.mean(held) == pytest.approx(1 / 3, abs=0.006)


def test_an_invalid_label_is_no_wrong_answer():
    """VideoAlign writes the number 22 for an invalid label, and its accuracy counts it as wrong."""
    for measure in (accuracy, tied_accuracy):
        with pytest.raises(DataError, match="not good"):
            measure([1, 1, 22, 22], [0.2, 0.3, 0.1, 0.1], [0, 1, 2, 3])
        with pytest.raises(DataError, match="no verdicts"):
            measure([], [], [])


def test_a_missing_score_is_no_wrong_answer():
    """The same code counts nan as discordant. Here it is left out, and said."""
    label, margin = np.array([1, -1, 1, -1, 1, 1]), np.array([1, -1, 1, 1, np.nan, np.nan])
    found = accuracy(label, margin, np.arange(6))
    assert (found.value, found.n) == (0.75, 4)
    assert "2 pairs without a score" in found.note
    with pytest.raises(DataError, match="scored no pair"):
        accuracy(label, np.full(6, np.nan), np.arange(6))


def test_failures_are_not_zeros():
    """Where the reference's bare `except` returns 0.0, these say what is wrong."""
    with pytest.raises(DataError, match="people order no pair"):
        accuracy([0, 0], [1, 2], [0, 1])
    with pytest.raises(DataError, match="5 folds of 2 prompts"):
        tied_accuracy([1, -1, 0], [1, 2, 3], [0, 1, 1])
    for correlation in (kendall, spearman):
        with pytest.raises(DataError, match="one side are equal"):
            correlation([1, 1, 1], [1, 2, 3], [0, 1, 2])
        with pytest.raises(DataError, match="2 prompts"):
            correlation([1, 2, 3], [1, 2, 3], [0, 1, 1])


def test_a_metric_tie_is_wrong_without_ties():
    found = accuracy([1, 1, -1, -1, 0], [0.5, 0.0, -0.5, 0.5, 0.5], np.arange(5))
    assert (found.value, found.n) == (0.5, 4)


def test_a_metric_tie_that_counts_half_makes_half_chance_however_few_values_there_are():
    rng = np.random.default_rng(0)
    label, prompt = rng.choice([-1, 1], 6000), np.arange(6000) // 3
    for values in (1, 2, 20):
        scores = rng.integers(0, values, (2, 6000))  # that know nothing of the labels
        margin = (scores[0] - scores[1]).astype(float)
        found = accuracy(label, margin, prompt, equal=0.5)
        assert found.value == pytest.approx(0.5, abs=0.025)
        concordant = np.sign(margin) * label
        assert found.value == pytest.approx((1 + concordant.mean()) / 2)  # half of one and Kendall's (C - D) / n
    assert accuracy(label, np.zeros(6000), prompt).value == 0


def test_always_and_never_have_the_exact_interval_over_prompts():
    exact = [stats.binomtest(hits, 20).proportion_ci(method="exact") for hits in (20, 0)]
    for outcome, (low, high) in zip((1, -1), exact):
        found = accuracy(np.full(60, outcome), np.ones(60), np.arange(60) % 20)  # 60 pairs of 20 prompts
        assert (found.value, found.n) == (outcome == 1, 60)
        assert (found.low, found.high) == pytest.approx((low, high))
        assert "exact binomial" in found.method
    alike = accuracy([1, -1, 1, -1], [1, 1, 1, 1], [0, 0, 1, 1])
    assert (alike.value, alike.low) == (0.5, None)
    assert "no interval" in alike.note


def test_accuracy_in_closed_form():
    """One pair a prompt: the binomial standard error, on the logit scale, with n / (n - 1) and t."""
    label = np.array([1] * 60 + [-1] * 40)
    found = accuracy(label, np.ones(100), np.arange(100))
    half = stats.t.ppf(0.975, 99) * np.sqrt(0.6 * 0.4 / 99) / (0.6 * 0.4)
    assert np.log(found.high / (1 - found.high)) == pytest.approx(np.log(0.6 / 0.4) + half)
    repeated = accuracy(np.repeat(label, 5), np.ones(500), np.repeat(np.arange(100), 5))
    assert (repeated.low, repeated.high) == pytest.approx((found.low, found.high))  # not five times the knowledge


def test_tied_accuracy_finds_the_ties():
    """People tie where the true difference is small, and the metric is that difference with noise."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=4000)
    label = np.where(np.abs(true) > 0.5, np.sign(true), 0).astype(int)
    found = tied_accuracy(label, true + 0.1 * rng.normal(size=4000), np.arange(4000) // 4)
    assert np.array(found.thresholds) == pytest.approx(0.5, abs=0.06)
    assert found.accuracy.low > 0.9
    assert found.accuracy.clusters == {"prompts": 1000}
    assert "other 4 of 5 folds" in found.accuracy.method


def scores(rng, prompts, each, correlation=0.6, shared=0.5):
    """Bivariate normal samples of a known correlation; `shared` is the prompt's part of their variance."""
    prompt = np.repeat(np.arange(prompts), each)
    root = np.linalg.cholesky([[1, correlation], [correlation, 1]])
    both = np.sqrt(shared) * (root @ rng.normal(size=(2, prompts)))[:, prompt]
    both = both + np.sqrt(1 - shared) * (root @ rng.normal(size=(2, prompts * each)))
    return *both, prompt


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=6, max_size=20))
def test_correlations_are_scipys(drawn):
    x, y = np.array(drawn).T
    if np.ptp(x) and np.ptp(y):
        assert kendall(x, y, np.arange(len(x))).value == pytest.approx(stats.kendalltau(x, y).statistic, nan_ok=True)
        assert spearman(x, y, np.arange(len(x))).value == pytest.approx(stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize(
    ("correlation", "truth"),
    [(kendall, 2 / np.pi * np.arcsin(0.6)), (spearman, 6 / np.pi * np.arcsin(0.3))],
)
def test_intervals_cover_where_samples_of_a_prompt_go_together(correlation, truth):
    """Kendall's and Spearman's values for a bivariate normal of correlation 0.6 are known."""
    rng = np.random.default_rng(1)
    studies = [correlation(*scores(rng, 40, 3)) for _ in range(60)]
    hits = np.mean([one.low <= truth <= one.high for one in studies])
    assert hits >= 0.88


def test_correlations_without_an_interval_say_so():
    found = spearman([1, 2, 3, np.nan], [1, 2, 3, 4], np.arange(4))
    assert (found.value, found.low, found.n) == (1, None, 3)
    assert "1 samples without a score" in found.note
    assert "it is perfect" in found.note


def test_many_prompts_are_left_out_in_groups():
    found = [kendall(*scores(np.random.default_rng(seed), 1500, 1, shared=0)) for seed in range(8)]
    assert found[0].clusters == {"prompts": 1500}
    # Esscher (1924): n var(tau) tends to 4 (1/9 - (2 / pi arcsin(rho / 2))^2)
    error = np.sqrt(4 / 1500 * (1 / 9 - (2 / np.pi * np.arcsin(0.3)) ** 2))
    assert np.mean([one.high - one.low for one in found]) / 2 == pytest.approx(1.96 * error, rel=0.08)
