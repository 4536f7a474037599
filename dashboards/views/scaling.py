"""Loss laws of finished runs: the fit and its band, residuals, larger runs predicted, the best size for a budget."""

import csv
import hashlib
import io
import math

import altair as alt
import numpy as np
import pandas as pd

from dashboards import charts
from dashboards.exhibit import (
    Ask,
    Card,
    Content,
    Exhibit,
    Missing,
    Remark,
    interval,
    numbers,
    short,
    spread,
    spread_formats,
)
from dashboards.reader import Reader
from palate.errors import DataError
from palate.scaling import runs_of
from palate.stats import scaling
from palate.stats.scaling import Fit, Runs
from palate.trained import recorded, sweeps

TITLE = "Scaling"
REPLICATES = 200
UPLOADED = "a CSV file"
_SYMBOLS = {"loss": "L", "params": "N", "tokens": "D", "compute": "C"}


def content(reader: Reader, ask: Ask) -> Content:
    named = reader.once("sweeps", lambda: sweeps(reader.store), ("run",))
    chosen = ask.one("sweep", "Sweep of the record", [*named, UPLOADED]) if named else UPLOADED
    wanted = "Runs as CSV: loss, and two or three of params, tokens, compute"
    given = ask.file("runs", wanted) if chosen == UPLOADED else None
    try:
        if chosen != UPLOADED:
            data = runs_of(recorded(reader.store, chosen))
        elif given is not None:
            data = _read(given)
        else:
            nothing = "No CSV has been uploaded" if named else "The record holds no sweep of training runs"
            yield Missing(f"{nothing}, so there is no law to draw: train one, or upload a CSV", "palate scaling sweep")
            return
        held = ask.number("hold", "Hold out the runs of more than 1/x of the top compute", 4, 1.01, 1000)
        key = hashlib.sha256(np.stack([data.L, data.N, data.D]).tobytes()).hexdigest()
        fitted = reader.once(("law", key), lambda: scaling.fit(data, REPLICATES), ())
    except DataError as error:
        yield Remark(str(error), warning=True)
        return
    yield _coefficients(fitted)
    yield _curve(data, fitted)
    yield from _beyond(reader, data, key, held)
    yield from _valleys(data)
    budget = ask.number(
        "budget", "A compute budget, as a power of ten", float(round(math.log10(data.C.max()) + 1)), -30, 40
    )
    yield _optimal(fitted, 10**budget)


def _read(given: bytes) -> Runs:
    """Raises DataError for what is no table of runs."""
    try:
        rows = list(csv.DictReader(io.StringIO(given.decode("utf-8-sig"))))
        columns = {
            symbol: [float(row[name]) for row in rows] for name, symbol in _SYMBOLS.items() if rows and name in rows[0]
        }
    except (UnicodeDecodeError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"this is no table of runs ({error})", "give a CSV with a header and a number in each cell"
        ) from error
    if "L" not in columns:
        raise DataError("there is no column loss", "name the columns loss, params, tokens, compute")
    return scaling.runs(**columns)


def _coefficients(fitted: Fit) -> Exhibit:
    names = {"A": "A", "B": "B", "E": "E", "alpha": "alpha", "beta": "beta", "exponent": "a of N_opt ~ C^a"}
    rows = [
        {"coefficient": label, **spread("value", fitted.estimate(lambda law, n=n: getattr(law, n)))}
        for n, label in names.items()
    ]
    return Exhibit(
        "law",
        "L = E + A / N^alpha + B / D^beta",
        f"In the file's own units; n = {fitted.n} runs; 95%: {fitted.estimate(lambda law: law.E).method}. Compute is C "
        "= 6 N D.",
        numbers(rows),
        spread_formats("value", short),
    )


def _curve(data: Runs, fitted: Fit) -> Exhibit:
    predicted = [fitted.estimate(lambda law, n=n, d=d: float(law.loss(n, d))) for n, d in zip(data.N, data.D)]
    rows = [
        {
            "compute": c,
            "params": n,
            "tokens": d,
            "loss": loss,
            **spread("fitted", one),
            "residual": loss / (one.value or 1) - 1,
        }
        for c, n, d, loss, one in zip(data.C, data.N, data.D, data.L, predicted)
    ]
    table = numbers(rows)
    log = alt.Scale(type="log", nice=False)
    x = alt.X("compute:Q", scale=log, title="compute", axis=alt.Axis(format=".0e", tickCount=5))
    base = alt.Chart(table, height=260)
    y = alt.Scale(type="log", zero=False, nice=False)
    band = base.mark_rule(color=charts.BLUE, strokeWidth=4, opacity=0.5).encode(
        x=x, y=alt.Y("fitted low:Q", scale=y, title="loss"), y2="fitted high:Q"
    )
    seen = base.mark_point(color=charts.VERMILLION, filled=True, size=50).encode(
        x=x, y="loss:Q", tooltip=["params:Q", "tokens:Q", "loss:Q"]
    )
    residual = alt.Chart(table, height=160).mark_point(color=charts.BLUE, filled=True, size=50)
    return Exhibit(
        "law-fit",
        "Runs and the law",
        "Points: loss seen. Bars: the law's 95% interval at that run's size and data, without a run's own noise. "
        "Below: seen over fitted "
        f"less one. n = {len(data)} runs.",
        table,
        {
            **spread_formats("fitted", short),
            **dict.fromkeys(("compute", "params", "tokens", "loss"), short),
            "residual": "{:+.2%}".format,
        },
        (
            band + seen,
            residual.encode(x=x, y=alt.Y("residual:Q", axis=alt.Axis(format="+.1%"), title="seen / fitted − 1")),
        ),
    )


def _beyond(reader: Reader, data: Runs, key: str, factor: float) -> Content:
    try:
        found = reader.once(("beyond", key, factor), lambda: scaling.extrapolate(data, factor, REPLICATES), ())
    except DataError as error:
        yield Remark(f"No extrapolation: {error}.")
        return
    rows = [
        {"params": n, "tokens": d, "loss seen": loss, **spread("predicted", one)}
        for n, d, loss, one in zip(found.held.N, found.held.D, found.held.L, found.predicted)
    ]
    yield Exhibit(
        "extrapolation",
        f"Runs of more than 1/{factor:g} of the top compute, predicted from the others",
        f"Mean relative error {interval(found.error, '{:.2%}'.format)}; n = {found.fit.n} runs fitted, {len(rows)} "
        f"held out; {found.error.method}.",
        numbers(rows),
        {**spread_formats("predicted", short), **dict.fromkeys(("params", "tokens", "loss seen"), short)},
    )


def _valleys(data: Runs) -> Content:
    """The isoFLOP approach, at the budgets that have runs."""
    budgets = np.unique([float(f"{one:.1e}") for one in data.C])
    try:
        optima, power = scaling.iso_flop(data, budgets)
    except DataError as error:
        yield Remark(f"No isoFLOP fit: {error}.")
        return
    table = pd.DataFrame({"compute": optima.C, "best size": optima.N, "its loss": optima.L})
    log = alt.Scale(type="log", nice=False)
    points = alt.Chart(table, height=220).mark_point(color=charts.BLUE, filled=True, size=70)
    yield Exhibit(
        "isoflop",
        "The best size at each budget (isoFLOP)",
        f"N_opt ~ C^a, a = {interval(power.powers[0], short)}; n = {len(table)} budgets; {power.powers[0].method}.",
        table,
        dict.fromkeys(table.columns, short),
        (
            points.encode(
                x=alt.X("compute:Q", scale=log),
                y=alt.Y("best size:Q", scale=log),
                tooltip=[f"{name}:Q" for name in table.columns],
            ),
        ),
    )


def _optimal(fitted: Fit, budget: float) -> Card:
    size = fitted.estimate(lambda law: float(law.optimal(budget)[0]))
    tokens = fitted.estimate(lambda law: float(law.optimal(budget)[1]))
    loss = fitted.estimate(lambda law: float(law.loss(*law.optimal(budget))))
    return Card(
        f"What is the best size for a compute of {budget:.3g}?",
        f"{size.value:.3g} parameters, {tokens.value:.3g} tokens",
        f"Parameters {interval(size, short)}, tokens {interval(tokens, short)}, loss {interval(loss, short)}; n = "
        f"{fitted.n} runs; "
        f"{size.method}. By the law with C = 6 N D; beyond the runs it is an extrapolation.",
        "open",
    )
