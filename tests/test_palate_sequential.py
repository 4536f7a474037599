import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar

from palate.errors import DataError
from palate.records import Case, Comparison, Judgement, Sample
from palate.report_cli import report
from palate.stats.plan import Components, components, prompts_needed
from palate.stats.sequential import anytime, boundary
from palate.stats.wins import Form, analytic, majority, pooled
from palate.store import Store


def crossed(rng, prompts, annotators, overlap, prompt_sd=0.0, annotator_sd=0.0, shift=0.0):
    """Outcome, prompt, annotator: each prompt judged by `overlap` people, a latent normal cut at +-0.43."""
    prompt = np.repeat(np.arange(prompts), overlap)
    annotator = np.concatenate([rng.permutation(annotators)[:overlap] for _ in range(prompts)])
    noise = rng.normal(0, prompt_sd, prompts)[prompt] + rng.normal(0, annotator_sd, annotators)[annotator]
    latent = shift + noise + rng.normal(size=len(prompt))
    return (latent > 0.43).astype(int) - (latent < -0.43), prompt, annotator


@given(st.floats(0, 1e5), st.floats(0.5, 0.999), st.floats(10, 1e4))
def test_the_boundary_is_the_mixtures(v, level, tuned):
    """Where the mixture martingale sqrt(r / (v + r)) exp(S^2 / (2 (v + r))) reaches 1 / alpha, for one r; Ville."""
    reached = boundary(v, level, tuned)

    def wealth(r):
        return 0.5 * np.log(r / (v + r)) + reached**2 / (2 * (v + r)) + np.log(1 - level)

    assert reached > 0
    assert np.isfinite(reached)
    # r is that of v = 0: boundary(0)^2 = 2 r log(1 / alpha)
    r = boundary(0, level, tuned) ** 2 / (2 * -np.log(1 - level))
    assert wealth(r) == pytest.approx(0, abs=1e-6)


def test_it_is_narrowest_where_it_is_tuned():
    best = minimize_scalar(lambda t: boundary(500, tuned=t), bounds=(10, 5000), method="bounded").x
    assert best == pytest.approx(500, rel=0.01)
    # the price of looking at any time, beside 1.96 standard deviations once
    assert boundary(500) / np.sqrt(500) == pytest.approx(3.02, abs=0.1)
    for v in (100, 5000):
        assert boundary(v) < 1.12 * boundary(v, tuned=v)


def test_brownian_motion_seldom_leaves_it():
    rng = np.random.default_rng(0)
    walks = np.cumsum(rng.normal(size=(1000, 3000)), axis=1)
    limits = np.array([boundary(v) for v in range(1, 3001)])
    left = (np.abs(walks) > limits).any(1).mean()
    assert 0.005 < left < 0.05
    assert (np.abs(walks) > 1.96 * np.sqrt(np.arange(1, 3001))).any(1).mean() > 0.4  # what looking daily does


def test_it_is_the_fixed_interval_made_wider():
    ballots = pooled(*crossed(np.random.default_rng(1), 200, 20, 3, prompt_sd=0.7, shift=0.2))
    once, always = analytic(ballots, Form.NET), anytime(ballots)
    assert once.value == always.value
    assert always.clusters == {"prompts": 200, "annotators": 20}
    assert 1.3 < (always.high - always.low) / (once.high - once.low) < 2
    assert "normal mixture, two-way" in always.method


def test_it_is_not_told_early_or_where_nothing_varies():
    few = anytime(pooled([1, 0, -1] * 3, np.arange(9)))
    assert (few.low, few.high) == (None, None)
    assert "before 10 prompts" in few.note
    alike = anytime(pooled([1] * 20, np.arange(20)))
    assert (alike.value, alike.low) == (1, None)
    with pytest.raises(DataError, match="majority"):
        anytime(majority([1, 0], [0, 1], [0, 1]))


def test_looking_at_every_vote_fools_nobody():
    """The public function, at every vote from the tenth prompt on: no effect, and prompts and people who differ."""
    wrong, naive, studies = 0, 0, 25
    for seed in range(studies):
        outcome, prompt, annotator = crossed(np.random.default_rng(seed), 60, 12, 2, prompt_sd=0.7, annotator_sd=0.2)
        looks = [pooled(outcome[:n], prompt[:n], annotator[:n]) for n in range(21, 121, 3)]
        shown = [anytime(one) for one in looks]
        wrong += any(one.low is not None and not one.low <= 0 <= one.high for one in shown)
        once = [analytic(one, Form.NET) for one in looks]
        naive += any(one.low is not None and not one.low <= 0 <= one.high for one in once)
    assert wrong <= 3
    assert naive >= 3


def test_components_are_found():
    """Verdicts with known components: a chance of good for each prompt and annotator; the rest is binomial."""
    rng = np.random.default_rng(2)
    P, A, o = 3000, 300, 5
    prompt = np.repeat(np.arange(P), o)
    annotator = np.concatenate([rng.choice(A, o, replace=False) for _ in range(P)])
    chance = 0.5 + rng.uniform(-0.2, 0.2, P)[prompt] + rng.uniform(-0.1, 0.1, A)[annotator]
    found = components(pooled(2 * (rng.random(P * o) < chance) - 1, prompt, annotator))
    # verdict = 2 Bernoulli - 1: its mean varies by 4 times the variance of the uniform effects, its total is 1 - mean^2
    assert found.prompt == pytest.approx(4 * 0.4**2 / 12, rel=0.15)
    assert found.annotator == pytest.approx(4 * 0.2**2 / 12, rel=0.3)
    assert found.total == pytest.approx(1, abs=0.01)


def test_components_are_the_balanced_analysis_of_variance():
    """Everybody judges everything: the textbook mean squares of a two-way layout without replication."""
    outcome, prompt, annotator = crossed(np.random.default_rng(3), 30, 8, 8, prompt_sd=0.8, annotator_sd=0.5)
    cells = np.zeros((30, 8))
    cells[prompt, annotator] = outcome
    rows, columns = cells.mean(1), cells.mean(0)
    between_rows, between_columns = 8 * rows.var(ddof=1), 30 * columns.var(ddof=1)
    rest = ((cells - rows[:, None] - columns + cells.mean()) ** 2).sum() / (29 * 7)
    found = components(pooled(outcome, prompt, annotator))
    assert found.rest == pytest.approx(rest)
    assert found.prompt == pytest.approx((between_rows - rest) / 8)
    assert found.annotator == pytest.approx((between_columns - rest) / 30)


def test_a_planned_study_has_the_power_that_was_asked_for():
    parts = Components(prompt=0.1, annotator=0.0, rest=0.5)
    prompts = prompts_needed(parts, detect=0.15, annotators=1, overlap=1)
    # one vote a prompt: (z + z)^2 0.6 / net^2, and two more for t
    assert prompts == pytest.approx((1.95996 + 0.84162) ** 2 * 0.6 / 0.15**2, abs=3)
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(400):
        # good with 0.3 + net / 2, bad with 0.3 - net / 2: variance 0.6 - net^2
        drawn = rng.random(prompts)
        outcome = (drawn < 0.375).astype(int) - (drawn > 1 - 0.225)
        net = analytic(pooled(outcome, np.arange(prompts)), Form.NET)
        found += net.low > 0
    assert found / 400 == pytest.approx(0.8, abs=0.06)


def test_more_prompts_do_not_replace_annotators():
    parts = Components(prompt=0.15, annotator=0.02, rest=0.5)
    assert prompts_needed(parts, 0.05, annotators=5, overlap=3) is None
    many = prompts_needed(parts, 0.05, annotators=200, overlap=3)
    more = prompts_needed(parts, 0.05, annotators=400, overlap=3)
    assert many > more
    assert prompts_needed(parts, 0.1, annotators=200, overlap=3) < many / 4
    # the root of the equation it solves, with t of 399 degrees of freedom
    root = brentq(lambda p: (1.96593 + 0.84162) ** 2 * parts.variance(p, 400, 3) - 0.05**2, 10, 1e6)
    assert more == pytest.approx(root, rel=0.01)
    for wrong in ({"detect": 0}, {"detect": 0.1, "overlap": 3}, {"detect": 0.1, "power": 1}):
        with pytest.raises(DataError):
            prompts_needed(parts, **{"annotators": 2, "overlap": 1, **wrong})


def test_what_cannot_be_measured_is_explained():
    with pytest.raises(DataError, match="unknown who"):
        components(pooled([1, -1], [0, 1]))
    with pytest.raises(DataError, match="cannot tell"):
        components(pooled([1, -1, 0], [0, 1, 2], ["a", "b", "c"]))
    for wrong in ((-1, 0, 1), (0, 0, 0), (np.nan, 0, 1)):
        with pytest.raises(DataError, match="variances"):
            Components(*wrong)


def test_the_command_plans_from_votes_or_assumptions(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    outcome, prompt, annotator = crossed(np.random.default_rng(5), 40, 6, 3, prompt_sd=0.8, annotator_sd=0.4)
    with Store(url) as store:
        for number in range(40):
            case = Case(suite="s", prompt=f"prompt {number}")
            pair = [Sample(case=case.id, system=system) for system in ("new", "old")]
            shown = Comparison(
                study="s", case=case.id, candidate=pair[0].id, baseline=pair[1].id, candidate_side="left"
            )
            store.add([case, *pair, shown])
            for row in np.flatnonzero(prompt == number):
                verdicts = {"overall": ["bad", "same", "good"][outcome[row] + 1]}
                who = f"person {annotator[row]}"
                store.add(
                    [Judgement(comparison=shown.id, annotator=who, simulated=False, source="t", verdicts=verdicts)]
                )
    arguments = ["plan", "--detect", "0.1", "--store", url, "--json"]
    shown = json.loads(CliRunner().invoke(report, arguments, catch_exceptions=False).stdout)
    expected = components(pooled(outcome, prompt, annotator))
    assert shown["components"] == pytest.approx(vars(expected))
    assert shown["source"] == "measured on 120 votes of 1 contests"
    assumed = ["plan", "--detect", "0.05", "--assume", "0.15,0.02,0.5", "--annotators", "5,200", "--overlap", "3"]
    text = CliRunner().invoke(report, assumed, catch_exceptions=False).stdout
    assert "none is enough" in text
    assert "0.150 between prompts" in text
    wrong = CliRunner().invoke(report, [*assumed[:3], "--assume", "0.1,x,2"])
    assert wrong.exit_code == 2
    nothing = CliRunner().invoke(report, ["plan", "--detect", "0.1", "--store", url, "--study", "other"])
    assert "nothing to measure on" in str(nothing.exception)
