import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.errors import DataError
from palate.stats.agreement import agreement, alpha, count_table
from palate.stats.estimate import percentiles

tables = st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=2, max_size=12).map(np.array)


@settings(max_examples=100, deadline=None)
@given(table=tables, metric=st.sampled_from(["nominal", "ordinal", "interval"]))
def test_alpha_matches_the_krippendorff_package(table, metric):
    judged = table[table.sum(1) >= 2]
    if (judged.sum(0) > 0).sum() < 2:
        return  # nothing to disagree about: tested below
    values = [1.0, 2.0, 4.0]
    expected = krippendorff.alpha(value_counts=table, level_of_measurement=metric, value_domain=values)
    assert alpha(table, metric, values=values, replicates=10).value == pytest.approx(expected, abs=1e-12)


def test_krippendorffs_own_example():
    """Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, data C."""
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
    person, unit = np.nonzero(ratings)
    table = count_table(unit, np.array(ratings)[person, unit] - 1, 5)
    for metric, expected in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        assert alpha(table, metric, values=range(5)).value == pytest.approx(expected, abs=5e-4)
    assert alpha(table, "nominal").n == 40  # the unit that one person judged is left out
    assert alpha(table, "nominal").clusters == {"units": 11}


def test_count_table():
    table = count_table(["b", "a", "b", "b"], [0, 2, 0, 1], 3)
    assert table.tolist() == [[0, 0, 1], [2, 1, 0]]
    assert count_table([], [], 3).shape == (0, 3)


def test_agreement_is_the_share_of_agreeing_pairs():
    """(3, 1): 3 of 6 pairs agree; (2, 0): 1 of 1. Each vote weighs the same: (4 * 1/2 + 2 * 1) / 6."""
    assert agreement([[3, 1], [2, 0], [0, 1]]).value == pytest.approx(4 / 6)


def test_perfect_and_random_agreement():
    rng = np.random.default_rng(0)
    perfect = alpha(np.eye(3, dtype=int)[rng.integers(0, 3, 50)] * 4, "ordinal")
    assert (perfect.value, perfect.low, perfect.high) == (1, 1, 1)
    chance = alpha(rng.multinomial(4, [0.3, 0.4, 0.3], size=2000), "nominal")
    assert chance.low < 0 < chance.high
    assert chance.high - chance.low < 0.05


def test_the_bootstrap_interval_is_the_one_of_resampling_units():
    """Drawing how many of each pattern is drawing units: compare with drawing units one by one."""
    rng = np.random.default_rng(1)
    chances = rng.dirichlet([1, 1, 1], 80)
    table = np.array([rng.multinomial(3, p) for p in chances])
    estimate = alpha(table, "ordinal", replicates=4000)
    replicas = [
        krippendorff.alpha(value_counts=table[rng.integers(0, 80, 80)], level_of_measurement="ordinal")
        for _ in range(2000)
    ]
    assert [estimate.low, estimate.high] == pytest.approx(np.quantile(replicas, [0.025, 0.975]), abs=0.02)


def test_what_cannot_be_agreed_on():
    nothing = alpha([[3, 0], [2, 0]], "nominal")
    assert nothing.value is None
    assert "one category" in nothing.note
    assert agreement([[3, 0], [2, 0]]).value == 1
    for table in ([[1, 0], [0, 1]], np.zeros((0, 3), dtype=int)):
        with pytest.raises(DataError, match="two votes"):
            alpha(table, "nominal")
    with pytest.raises(DataError, match="values"):
        alpha([[2, 1]], "interval")


def test_one_unit_has_no_interval():
    found = alpha([[1, 2, 0]], "nominal")
    assert found.value is not None
    assert found.low is None
    assert found.high is None
    assert "one unit" in found.note


def test_percentiles_of_few_units_lie_further_out():
    """Means of n normal values, deviation unknown: where Student's interval holds the mean, so do these, nearly."""
    rng, held = np.random.default_rng(0), {"plain": 0, "expanded": 0}
    for _ in range(600):
        values = rng.normal(size=8)
        replicas = rng.choice(values, (400, 8)).mean(axis=1)
        held["plain"] += np.quantile(replicas, 0.025) <= 0 <= np.quantile(replicas, 0.975)
        low, high = percentiles(replicas, 8, 0.95)
        held["expanded"] += low <= 0 <= high
    assert held["plain"] / 600 < 0.91 < 0.925 < held["expanded"] / 600
