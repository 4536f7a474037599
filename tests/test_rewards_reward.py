"""Composition: what is unknown stays unknown, units never mix, and a group's noise is no difference."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from palate.errors import ConfigError, DataError
from rewards.reward import Answer, Composed, Scored, Term, Unit, advantages, gated, standardised, weighted

GROUPS = np.array([0, 0, 0, 1, 1, 1])


def column(name: str, *answers: float | str, unit: Unit = Unit.SHARE) -> Scored:
    return Scored.of(name, unit, answers)


def test_a_failure_is_masked_with_its_reason_and_never_averaged() -> None:
    motion, text = column("motion", 1, 2, "no frame", 4), column("text", 1, "no letters", 1, 1)
    total = weighted([motion, text], {"motion": Term(weight=2), "text": Term(weight=-1)})
    assert total.known.tolist() == [True, False, False, True]
    assert total.value[[0, 3]].tolist() == [1, 7]
    assert np.isnan(total.value[[1, 2]]).all()
    assert total.reasons == ("", "text: no letters", "motion: no frame", "")


def test_a_failed_reward_does_not_move_the_mean_of_its_group() -> None:
    whole = advantages([column("r", 1.0, 3.0)], {"r": Term()}, np.zeros(2, int))
    with_failure = advantages([column("r", 1.0, "it failed", 3.0)], {"r": Term()}, np.zeros(3, int))
    assert whole.value.tolist() == [-1, 1] == with_failure.value[[0, 2]].tolist()
    assert with_failure.reasons[1] == "r: it failed"


def test_a_number_that_is_not_finite_becomes_a_reason_and_a_silent_gap_is_refused() -> None:
    assert column("r", float("inf"), float("nan"), 1.0).reasons == ("it came out as inf", "it came out as nan", "")
    with pytest.raises(DataError, match="neither"):
        Scored("r", Unit.SHARE, np.array([np.nan]), ("",))
    with pytest.raises(DataError, match="reason against it"):
        Scored("r", Unit.SHARE, np.array([1.0]), ("but",))


def test_units_are_not_added_until_each_is_in_deviations() -> None:
    columns = [column("a", 0.1, 0.9), column("b", 10, 30, unit=Unit.GREY)]
    with pytest.raises(ConfigError, match=r"different units.*b in grey levels"):
        weighted(columns, {"a": Term(), "b": Term()})
    same = [standardised(columns[0], 0.5, 0.4), standardised(columns[1], 20, 10)]
    assert weighted(same, {"a": Term(), "b": Term()}).value == pytest.approx([-2, 2])
    with pytest.raises(DataError, match="already"):
        standardised(same[0], 0, 1)


def test_a_gate_holds_a_column_back_and_an_unknown_gate_leaves_it_unknown() -> None:
    columns = [column("taste", 1, 2, 3), column("safe", 0.9, 0.1, "no answer")]
    (taste,) = gated(columns, {"taste": Term(gate="safe", at_least=0.5, otherwise=-5)})
    assert taste.value[:2].tolist() == [1, -5]
    assert taste.reasons == ("", "", "safe: no answer")
    with pytest.raises(ConfigError, match="'sound'"):
        gated(columns, {"taste": Term(gate="sound")})


def test_each_reward_counts_by_its_own_spread() -> None:
    """The fault of normalising the sum: a column a thousand times larger would decide alone."""
    small, large = column("s", 0, 1, 2, 0, 1, 2), column("l", 2000, 1000, 0, 0, 1000, 2000, unit=Unit.GREY)
    both = advantages([small, large], {"s": Term(), "l": Term()}, GROUPS)
    assert both.value[:3] == pytest.approx([0, 0, 0])
    assert both.value[3:] == pytest.approx(np.array([-2, 0, 2]) * np.sqrt(1.5))
    assert both.unit is Unit.DEVIATIONS


def test_noise_among_equals_is_no_advantage() -> None:
    noisy = column("r", *(0.5 + 1e-5 * np.random.default_rng(0).standard_normal(6)))
    assert np.abs(advantages([noisy], {"r": Term()}, GROUPS).value).max() < 0.05


def test_a_sample_alone_in_its_group_has_no_advantage() -> None:
    alone = advantages([column("r", 1, 2, 3)], {"r": Term()}, np.array([7, 7, 8]))
    assert alone.reasons == ("", "", "r: no other sample of its prompt has a value")


@given(
    st.lists(st.floats(-10, 10), min_size=6, max_size=6),
    st.floats(0.1, 10),
    st.floats(-5, 5),
    st.permutations(range(6)),
)
def test_advantages_ignore_shift_scale_and_order(
    values: list[float], scale: float, shift: float, order: list[int]
) -> None:
    terms = {"r": Term(least=1e-12)}
    raw = np.array(values)
    assume(min(np.ptp(raw[:3]), np.ptp(raw[3:])) > 1e-3)  # a spread that rounding would swamp tests no arithmetic
    first = advantages([column("r", *raw)], terms, GROUPS).value
    moved = advantages([column("r", *(scale * raw + shift)[order])], terms, GROUPS[order]).value
    np.testing.assert_allclose(moved, first[order], atol=1e-6)
    np.testing.assert_allclose([first[:3].mean(), first[3:].mean()], 0, atol=1e-9)


class Length:
    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        seconds = [len(one.frames) / one.fps if one.fps else "no rate" for one in answers]
        return (Scored.of("seconds", Unit.SHARE, seconds),)


def test_rewards_compose_and_become_rows_of_the_record() -> None:
    frames = np.zeros((8, 2, 2, 3), np.uint8)
    answers = [Answer("a", frames, 4.0), Answer("b", frames, 0.0)]
    (total,) = Composed((Length(),), {"seconds": Term(weight=3)}).score(answers)
    rows = total.scores(["sample-" + "0" * 24, "sample-" + "1" * 24])
    assert (rows[0].value, rows[0].unit, rows[0].failure) == (6.0, "share", None)
    assert (rows[1].value, rows[1].failure) == (None, "seconds: no rate")
