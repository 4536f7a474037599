import csv
import json
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize_scalar

from palate.errors import DataError, ImportRefusedError
from palate.provenance import walk
from palate.records import Estimate, Figure
from palate.scaling import Asked, read_runs, summarise
from palate.scaling_cli import scaling as command
from palate.stats import scaling
from palate.stats.scaling import VIDEO_BATCH, VIDEO_LOSS, VIDEO_RATE, VIDEO_SIZE, LossLaw
from palate.store import Store
from palate.trained import Trained

CHINCHILLA = Path(__file__).resolve().parents[2] / "shared" / "data" / "chinchilla" / "points.csv"
COLUMNS = "params=Model Size,compute=Training FLOP,loss=loss"
needs_chinchilla = pytest.mark.skipif(
    not CHINCHILLA.exists(), reason="Chinchilla's points are not beside this checkout"
)


@pytest.fixture(scope="module")
def chinchilla():
    columns = dict(one.split("=") for one in COLUMNS.split(","))
    return read_runs(CHINCHILLA, columns).without_highest(5)


def planted(law=VIDEO_LOSS, noise=0.0, seed=0):
    """36 runs of six sizes and six lengths."""
    N, D = np.repeat([0.017, 0.057, 0.13, 0.26, 0.7, 1.4], 6), np.tile([1, 2, 4, 6, 9, 12.0], 6)
    return scaling.runs(law.loss(N, D) * np.exp(noise * np.random.default_rng(seed).normal(size=36)), N=N, D=D)


def test_the_published_predictions():
    """arXiv:2411.17470: 0.51266 for 1.07e9 parameters and 10e9 tokens, 0.50352 for 0.72e9 and 140e9."""
    assert VIDEO_LOSS.loss(1.07, 10) == pytest.approx(0.51266, abs=1e-4)
    assert VIDEO_LOSS.loss(0.72, 140) == pytest.approx(0.50352, abs=1e-4)
    assert VIDEO_SIZE(1e12) == pytest.approx(1.5787 * 1e12**0.4146)
    # One of its figures: 1.07e9 parameters, 4e9 tokens; the best of the batches and rates tried are beside these.
    assert 4e4 < VIDEO_BATCH(4, 1.07) < 1.6e5
    assert 1.1e-4 < VIDEO_RATE(4, 1.07) < 2.5e-4


def test_a_term_that_does_not_fall_has_the_largest_scale_there_is_and_not_a_crash():
    most = float(np.finfo(float).max)
    assert LossLaw(A=2.0, B=0.5, E=0.1, alpha=0.0, beta=0.0).scales == (most, 0.0)
    assert LossLaw(A=2.0, B=4.0, E=0.1, alpha=1e-4, beta=2.0).scales == (most, 2.0)


def test_a_law_that_does_not_fall_divides_compute_in_half():
    assert LossLaw(A=2.0, B=0.5, E=0.1, alpha=0.0, beta=0.0).exponent == 0.5
    assert LossLaw(A=2.0, B=0.5, E=0.1, alpha=0.3, beta=0.0).exponent == 0.0


def test_prefactors_are_no_scales():
    """Read as scales, the same table predicts 0.893: the mistake that two forms invite."""
    misread = LossLaw.from_scales(N_c=0.0082, D_c=0.0373, E=0.4856, alpha=0.3188, beta=0.2917)
    assert misread.loss(1.07, 10) == pytest.approx(0.893, abs=1e-3)
    assert VIDEO_LOSS.scales == pytest.approx((0.0082 ** (1 / 0.3188), 0.0373 ** (1 / 0.2917)))


coefficient = st.floats(0.01, 1000)
exponent = st.floats(0.1, 1.5)


@given(coefficient, coefficient, st.floats(0, 3), exponent, exponent)
def test_both_forms_are_one_law(A, B, E, alpha, beta):
    law = LossLaw(A, B, E, alpha, beta)
    again = LossLaw.from_scales(*law.scales, E, alpha, beta)
    assert pytest.approx((A, B), rel=1e-9) == (again.A, again.B)


@settings(max_examples=30)
@given(coefficient, coefficient, st.floats(0, 3), exponent, exponent, st.floats(1e2, 1e8))
def test_the_best_division_of_compute(A, B, E, alpha, beta, C):
    """Against a search for the size of least loss."""
    law = LossLaw(A, B, E, alpha, beta)
    N, D = law.optimal(C)
    assert pytest.approx(C) == 6 * N * D
    middle = np.log(N)
    found = minimize_scalar(
        lambda n: float(law.loss(np.exp(n), C / 6 / np.exp(n))) - E, bounds=(middle - 5, middle + 5), method="bounded"
    )
    assert found.x == pytest.approx(middle, abs=0.01)


@needs_chinchilla
def test_chinchilla_as_besiroglu_et_al_fit_it(chinchilla):
    """Coefficients, Huber loss and standard errors of arXiv:2404.10102 and its published notebook."""
    assert len(chinchilla) == 240
    fit = scaling.fit(chinchilla, replicates=100)
    found = [fit.law.A, fit.law.B, fit.law.E, fit.law.alpha, fit.law.beta]
    assert found == pytest.approx([477.84, 2143.86, 1.81724, 0.34731, 0.36718], rel=1e-3)
    assert fit.huber == pytest.approx(0.00101827, abs=5e-9)
    for name, error in (("E", 0.0257), ("alpha", 0.0154), ("beta", 0.0206), ("exponent", 0.020)):
        estimate = fit.estimate(lambda law, name=name: getattr(law, name), level=0.68)
        assert (estimate.high - estimate.low) / 2 == pytest.approx(error, rel=0.35)
    assert fit.law.exponent == pytest.approx(0.513, abs=0.002)


@needs_chinchilla
def test_two_approaches_agree_on_chinchilla(chinchilla):
    budgets = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21]
    optima, power = scaling.iso_flop(chinchilla, budgets, near=1.15)
    assert len(optima) == 9
    assert power.powers[0].low < 0.514 < power.powers[0].high
    assert power.powers[0].value == pytest.approx(0.514, abs=0.03)


@needs_chinchilla
def test_the_command(chinchilla, tmp_path):
    more = [
        "--drop-highest",
        "5",
        "--replicates",
        "20",
        "--hold-out",
        "4",
        "--budgets",
        "6e18,1e19,3e19",
        "--near",
        "1.15",
    ]
    arguments = ["fit", str(CHINCHILLA), "--columns", COLUMNS, *more]
    text = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout
    assert "477.8" in text
    assert "Huber on log loss" in text
    shown = json.loads(CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert shown["A"]["value"] == pytest.approx(477.84, rel=1e-3)
    # the two runs held out: 0.6% and 2.5% off
    assert 0.005 < shown["mean relative error on held-out runs"]["value"] < 0.03


def test_a_sweeps_runs_are_fitted_from_the_record(tmp_path):
    """As their table would be; and every number walks back to the runs."""
    data, url = planted(noise=1e-3), str(tmp_path / "store.db")
    with Store(url) as store:
        for number, (N, D, C, L) in enumerate(zip(data.N * 1e9, data.D * 1e9, data.C * 1e18, data.L)):
            sweep = "mine" if number < 35 else "another"
            of = {"params": round(N), "tokens": round(D), "flops": C, "settings": {}}
            loss = Estimate(value=L, low=L - 0.1, high=L + 0.1, n=9, method="t")
            store.add(Trained(sweep=sweep, identity=str(number), **of).records(loss, "1", 0))
        arguments = ["fit", "--store", url, "--sweep", "mine", "--replicates", "5", "--hold-out", "4", "--json"]
        shown = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
        table = data.select(np.arange(35))
        expected = summarise(
            scaling.runs(table.L, N=table.N * 1e9, D=table.D * 1e9), Asked(hold_out=4, replicates=5, seed=0)
        )
        for name in ("E", "alpha", "beta", "mean relative error on held-out runs"):
            assert shown[name]["value"] == pytest.approx(expected[name].value, rel=1e-4)
        figure = next(iter(store.select(Figure, name="scaling.alpha")))
        assert (figure.rows, figure.estimate.value) == (35, shown["alpha"]["value"])
        behind = walk(store, figure.id).behind
        assert behind[0].title == "the same 35 runs as when it was computed"
        assert len(behind) == 1 + 35
    nothing = CliRunner().invoke(command, ["fit", "--store", url, "--sweep", "third"])
    assert isinstance(nothing.exception, DataError)


def test_planted_coefficients_are_found():
    exact = scaling.fit(planted(), replicates=2).law
    assert vars(exact) == pytest.approx(vars(VIDEO_LOSS), rel=1e-6)
    noisy = scaling.fit(planted(noise=1e-3), replicates=100)
    for name, true in vars(VIDEO_LOSS).items():
        estimate = noisy.estimate(lambda law, name=name: getattr(law, name))
        assert estimate.low < true < estimate.high
        assert estimate.low < estimate.value < estimate.high


def test_no_floor_is_said():
    """Runs whose loss falls to nothing."""
    law = LossLaw(A=2, B=3, E=0.0, alpha=0.3, beta=0.4)
    found = scaling.fit(planted(law), replicates=2)
    assert found.law.E == 0
    assert "no floor" in found.estimate(lambda law: law.E).note
    assert (found.law.alpha, found.law.beta) == pytest.approx((0.3, 0.4), rel=1e-3)
    assert scaling.fit(planted(), replicates=2).note == ""


def test_units_do_not_matter():
    """Runs in parameters and tokens, or in 1e9 of them: A and B change with the unit, the rest does not."""
    data = planted(noise=1e-3)
    large, small = (
        scaling.fit(scaling.runs(data.L, N=data.N * unit, D=data.D * unit), replicates=1).law for unit in (1e9, 1)
    )
    assert (large.E, large.alpha, large.beta) == pytest.approx((small.E, small.alpha, small.beta), rel=1e-6)
    assert pytest.approx(small.A * 1e9**small.alpha, rel=1e-5) == large.A


def test_one_wild_run_hardly_matters():
    """What Huber is for: a diverged run moves a least-squares fit, and this one little."""
    data = planted(noise=1e-4)
    data.L[20] *= 1.5
    assert vars(scaling.fit(data, replicates=1).law) == pytest.approx(vars(VIDEO_LOSS), rel=0.05)


def test_the_gradient_is_the_objectives(monkeypatch):
    """By finite differences, at points where residuals lie on both sides of Huber's corner."""
    seen = []
    monkeypatch.setattr(scaling, "minimize", lambda objective, start, **_: seen.append((objective, start)))
    data = planted(noise=1e-3)
    with pytest.raises(AttributeError):  # nothing was minimised
        scaling.fit(data, replicates=1)
    (objective, _), *_ = seen
    rng = np.random.default_rng(0)
    for _ in range(5):
        at = rng.normal(0, 0.3, 5) + np.array([-3, -3, -0.1, 0.3, 0.3])
        error = check_grad(lambda p: objective(p)[0], lambda p: objective(p)[1], at)
        assert error < 1e-4 * np.linalg.norm(objective(at)[1])


def test_larger_runs_are_predicted():
    found = scaling.extrapolate(planted(noise=1e-4), factor=4, replicates=50)
    assert len(found.held) > 3
    assert found.held.C.min() > found.held.C.max() / 4
    assert found.error.value < 2e-3
    for one, n, d in zip(found.predicted, found.held.N, found.held.D):
        assert one.low - 2e-4 < VIDEO_LOSS.loss(n, d) < one.high + 2e-4


def test_power_laws_are_found():
    """Against statsmodels, and against the law behind the points."""
    rng = np.random.default_rng(0)
    D, N = rng.uniform(2, 12, 40), rng.uniform(0.02, 1, 40)
    batch = VIDEO_BATCH(D, N) * np.exp(0.1 * rng.normal(size=40))
    fit = scaling.fit_power(batch, D, N)
    oracle = sm.OLS(np.log(batch), sm.add_constant(np.log(np.stack([D, N], axis=1)))).fit()
    found = [[np.log(fit.k.low), np.log(fit.k.high)], *([one.low, one.high] for one in fit.powers)]
    assert np.array(found) == pytest.approx(oracle.conf_int())
    for estimate, true in zip((fit.k, *fit.powers), (2.1797e4, 0.8080, 0.1906)):
        assert estimate.low < true < estimate.high
    exact = scaling.fit_power(VIDEO_RATE(D, N), D, N)
    assert (exact.law.k, *exact.law.powers) == pytest.approx((0.0002, -0.0453, -0.1619))


def test_iso_flop_finds_the_optimum_of_a_law():
    law = LossLaw(A=400, B=400, E=1.7, alpha=0.34, beta=0.34)
    budgets = np.array([1e18, 1e19, 1e20, 1e21])
    factors = np.exp(np.linspace(-0.7, 0.7, 7))
    C = np.repeat(budgets, 7)
    N = law.optimal(C)[0] * np.tile(factors, 4)
    optima, power = scaling.iso_flop(scaling.runs(law.loss(N, C / 6 / N), N=N, C=C), budgets)
    assert pytest.approx(law.optimal(budgets)[0], rel=0.02) == optima.N
    assert power.law.powers[0] == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(DataError, match="0 compute budgets"):
        scaling.iso_flop(scaling.runs(law.loss(N, C / 6 / N), N=N, C=C), budgets * 3)


def test_what_cannot_be_fitted_is_explained():
    with pytest.raises(DataError, match="two of parameters, tokens and compute"):
        scaling.runs([1.0], N=[1.0])
    with pytest.raises(DataError, match="L of run 2 is nan"):
        scaling.runs([1.0, np.nan], N=[1.0, 1.0], D=[1.0, 1.0])
    five = planted().select(np.arange(5))
    with pytest.raises(DataError, match="5 runs for five"):
        scaling.fit(five)
    with pytest.raises(DataError, match="same parameters"):
        scaling.fit(scaling.runs(np.arange(1.0, 9), N=np.ones(8), D=np.arange(1.0, 9)))
    with pytest.raises(DataError, match="do not determine"):
        scaling.fit_power([1, 2, 3], [1, 2, 3], [1, 2, 3])
    with pytest.raises(DataError, match="not positive"):
        scaling.fit_power([1, 0], [1, 2])


def test_a_wrong_file_is_explained(tmp_path):
    file = tmp_path / "runs.csv"
    named = {"params": "N", "tokens": "D", "loss": "L"}
    with pytest.raises(ImportRefusedError, match="cannot be read"):
        read_runs(file, named)
    file.write_text("N,D,L\n")
    with pytest.raises(ImportRefusedError, match="no rows"):
        read_runs(file, named)
    with file.open("w") as opened:
        csv.writer(opened).writerows([["N", "D", "L"], [1, 2, 3], [1, 2, "n/a"]])
    with pytest.raises(ImportRefusedError, match="line 3: L is 'n/a'"):
        read_runs(file, named)
    with pytest.raises(ImportRefusedError, match="no column 'loss'"):
        read_runs(file, {**named, "loss": "loss"})
    wrong = CliRunner().invoke(command, ["fit", str(file), "--columns", "size=N"])
    assert wrong.exit_code == 2
    assert "is not one of params=" in wrong.output
