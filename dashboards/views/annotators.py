"""Who judges, how well they agree, whom to talk to, and when the work will be done."""

from datetime import UTC, datetime, timedelta
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from dashboards import charts, choose
from dashboards.choose import Choice
from dashboards.exhibit import Ask, Card, Content, Exhibit, Remark, fine, numbers, short, spread, spread_formats, whole
from dashboards.ledger import Ints, Mask
from dashboards.reader import Reader
from palate.accords import Accord, accords
from palate.records import UNKNOWN_ANNOTATOR
from palate.stats.estimate import distinct
from palate.stats.reliability import reliabilities

TITLE = "Annotators"
POINTS = 400  # of the burn-up: more cannot be told apart on a screen
WINDOW = timedelta(hours=24)  # the pace is measured over the last of it in which there was work


def content(reader: Reader, ask: Ask) -> Content:
    choice = choose.votes(reader, ask)
    yield from choose.opening(choice)
    if choice is None:
        return
    axes = choice.axes(ordinary=False)
    if axes:
        axis = ask.one("axis", "Axis", axes)
        table = reader.once(("annotators", choice.key, axis), lambda: _quality(choice, axis))
        yield Exhibit(
            "annotators",
            f"Annotators on {axis}",
            "Shares with 95% Wilson intervals, n behind each. gold: known answers given. left: the left side among "
            "decided verdicts; "
            "p of favouring no side. same: share of “same”. repeat: repeats answered as before. as others: the sign of "
            "the others' sum on the same comparison. reliability: correlation of the answers with what Dawid and "
            "Skene's model of the others' answers holds true, 0 for guessing, interval by Fisher's z. Each is a "
            "question to ask of a person, not a judgement of one; "
            "palate annotate quality weighs them. A share that nobody has an n for is left out.",
            table,
            {
                **{k: v for name in _SHARES for k, v in spread_formats(name, fine).items()},
                **dict.fromkeys(
                    ("judgements", "verdicts", "skips", *(f"{name} n" for name in (*_SHARES, "reliability"))), whole
                ),
                **spread_formats("reliability", short),
                "left p": short,
                "median seconds": short,
            },
            simulated=choice.simulated,
        )
    yield from _agreement(reader, choice)
    yield from _progress(ask, choice)


_SHARES = ("gold", "left", "same", "repeat", "as others")


def _quality(choice: Choice, axis: str) -> pd.DataFrame:
    """A row an annotator, over all that they were shown, gold and repeats included."""
    snapshot = choice.snapshot
    kept = choice.verdicts(axis, ordinary=False)
    at, judgement, outcome = snapshot.comparison_of[kept], snapshot.verdict["judgement"][kept], snapshot.outcome[kept]
    person, people = snapshot.judgement["annotator"][judgement], len(snapshot.words["annotator"])
    comparison = snapshot.comparison
    pair = _pairs(comparison)[at]
    sided, role = comparison["side"][at] * outcome, comparison["role"][at]
    normal = role != 1
    sums = np.bincount(at, outcome * normal, len(comparison["study"]))
    voters = np.bincount(at, normal, len(comparison["study"]))
    others, shared = np.sign(sums[at] - outcome), normal & (voters[at] > 1)

    def count(which: Mask) -> Ints:
        """Of each annotator."""
        return np.bincount(person[which], minlength=people)

    shares = {
        "gold": (count((role == 1) & (outcome > 0)), count(role == 1)),
        "left": (count(sided > 0), count(sided != 0)),
        "same": (count(outcome == 0), np.bincount(person, minlength=people)),
        "repeat": _again(person[normal], pair[normal], outcome[normal], people),
        "as others": (count(shared & (others == outcome)), count(shared)),
    }
    asked = (snapshot.judgement["simulated"] == choice.simulated) & snapshot.judgement["stands"]
    if choice.study is not None:
        study = comparison["study"][snapshot.judgement["comparison"]]
        asked &= study == snapshot.code("study", choice.study)
    asker, skipped = snapshot.judgement["annotator"][asked], snapshot.judgement["skipped"][asked] == 1
    left, decided = shares["left"]
    table = pd.DataFrame(
        {
            "annotator": snapshot.words["annotator"].astype(str),
            "judgements": np.bincount(asker, minlength=people),
            "verdicts": shares["same"][1],
            "skips": np.bincount(asker[skipped], minlength=people),
            "median seconds": pd.Series(snapshot.judgement["seconds"][asked]).groupby(asker).median(),
        },
        index=range(people),
    )
    known = normal & (snapshot.words["annotator"] != UNKNOWN_ANNOTATOR)[person]
    trusted = reliabilities(pair[known], person[known], outcome[known], people)
    if any(one.value is not None for one in trusted):
        columns = numbers([spread("reliability", one) for one in trusted])
        table = table.assign(**columns, **{"reliability n": [one.n for one in trusted]})
    for name, (hits, n) in shares.items():
        if n.any():
            low, high = proportion_confint(hits, np.where(n, n, np.nan), method="wilson")
            table = table.assign(**{name: hits / np.where(n, n, np.nan), f"{name} low": low, f"{name} high": high})
            table[f"{name} n"] = n
    # Two-sided and exact, of a coin that is fair.
    table["left p"] = np.minimum(2 * stats.binom.cdf(np.minimum(left, decided - left), decided, 0.5), 1)
    table.loc[decided == 0, "left p"] = np.nan
    return table.loc[table["verdicts"] > 0].sort_values(by="annotator").reset_index(drop=True)


def _pairs(comparison: dict[str, NDArray[Any]]) -> Ints:
    """Of each comparison the two samples, as one number: a repeat shares that of its original."""
    baselines = int(comparison["baseline"].max(initial=0)) + 1
    return distinct(distinct(comparison["candidate"])[1] * baselines + comparison["baseline"])[1]


def _again(person: Ints, pair: Ints, outcome: Ints, people: int) -> tuple[Ints, Ints]:
    """Of each person: answered the same, and answered twice, over pairs of samples that they were shown more than once.

    Columns (n,) of verdicts.
    """
    asked, which = distinct(pair * people + person)
    times = np.bincount(which, minlength=len(asked))
    least, most = (np.bincount(which, outcome == kind, len(asked)) for kind in (-1, 1))
    same = (least == times) | (most == times) | (least + most == 0)
    whose, twice = asked.astype(np.int64) % people, times > 1
    return np.bincount(whose[twice & same], minlength=people), np.bincount(whose[twice], minlength=people)


def _agreement(reader: Reader, choice: Choice) -> Content:
    def agreed() -> list[Accord]:
        kept = choice.verdicts()
        return accords(choice.snapshot.votes(kept)) if kept.any() else []

    found = reader.once(("accords", choice.key), agreed)
    if not found:
        yield Remark("No comparison has two votes, so nothing is known of how far people agree.")
        return
    rows = [
        {
            "axis": one.basis.axis,
            **spread("alpha", one.ordinal),
            **spread("alpha nominal", one.nominal),
            **spread("agreeing pairs", one.share),
            "comparisons": one.comparisons,
            "n": one.ordinal.n,
            "people": one.basis.people,
        }
        for one in found
    ]
    table = numbers(rows)
    how = {**spread_formats("alpha", short), **spread_formats("alpha nominal", short)}
    yield Exhibit(
        "agreement",
        "How far they agree",
        "Krippendorff's alpha, ordinal (bad < same < good): 1 is full agreement, 0 is chance. Share of agreeing pairs "
        "of votes beside "
        "it. n verdicts on comparisons with two votes or more; 95% intervals, bootstrap over comparisons.",
        table,
        {**how, **spread_formats("agreeing pairs", fine), **dict.fromkeys(("comparisons", "n", "people"), whole)},
        (charts.whiskers(table, "axis", "alpha", "alpha, ordinal, 95% interval", 0.0, ".2f"),),
        choice.simulated,
    )


def _progress(ask: Ask, choice: Choice) -> Content:
    snapshot = choice.snapshot
    study = snapshot.comparison["study"]
    inside = study >= 0 if choice.study is None else study == snapshot.code("study", choice.study)
    kind = snapshot.judgement["simulated"] == choice.simulated
    counted = kind & snapshot.judgement["stands"] & inside[snapshot.judgement["comparison"]]
    given = np.bincount(
        snapshot.judgement["comparison"][counted & (snapshot.judgement["skipped"] == 0)], minlength=len(study)
    )
    if choice.study is None:  # a study that the other kind of voter answered is not waiting for this one
        inside &= np.isin(study, np.unique(study[snapshot.judgement["comparison"][counted]]))
    wanted = int(ask.number("overlap", "Judgements wanted", max(1, int(given[inside].max(initial=1))), 1, 50))
    left = int(np.maximum(wanted - given[inside], 0).sum())
    times = np.sort(snapshot.judgement["time"][counted])
    yield _eta(times, left, wanted, int(inside.sum()))
    if not len(times):
        return
    at = np.unique(np.linspace(0, len(times) - 1, min(POINTS, len(times))).astype(int))
    table = pd.DataFrame({"time": [_moment(float(times[one])) for one in at], "judgements": at + 1})
    chart = alt.Chart(table, height=200).mark_line(color=charts.BLUE, interpolate="step-after", point=len(at) < 60)
    yield Exhibit(
        "burn-up",
        "Judgements over time",
        f"Judgements that stand, skips included, by when the record was given them (UTC), up to n = {len(times):,}. "
        "An import gives many at one moment.",
        table,
        {"judgements": whole},
        (
            chart.encode(
                x=alt.X(
                    "time:T",
                    title=None,
                    scale=alt.Scale(type="utc"),
                    axis=alt.Axis(format="%d %b %H:%M", tickCount=5, labelOverlap=True),
                ),
                y=alt.Y("judgements:Q", title="judgements", axis=alt.Axis(format=",.0f")),
                tooltip=["time:T", alt.Tooltip("judgements:Q", format=",")],
            ),
        ),
        choice.simulated,
    )


def _eta(times: np.ndarray, left: int, wanted: int, comparisons: int) -> Card:
    question = f"When will each comparison have {wanted} judgements?"
    if not left:
        return Card(question, "It is done", f"{comparisons:,} comparisons have them.", "good")
    answer = f"{left:,} judgements are left"
    if not len(times):
        return Card(question, answer, "None has been given, so there is no pace to reckon with.", "open")
    start = times[-1] - WINDOW.total_seconds()
    recent = times[times > start]
    hours = float(recent[-1] - recent[0]) / 3600
    n = len(recent) - 1
    if hours < 1 / 60 or n < 10:
        return Card(
            question,
            answer,
            "The last ones were recorded at one moment or are too few: no pace to reckon with.",
            "open",
        )
    # Of a Poisson count n the exact interval of the expectation (Garwood 1936).
    low = float(stats.chi2.ppf(0.025, 2 * n)) / 2 / hours
    high = float(stats.chi2.ppf(0.975, 2 * n + 2)) / 2 / hours
    because = (
        f"At {n / hours:,.0f} [{low:,.0f}, {high:,.0f}] judgements an hour: {_span(left * hours / n)} "
        f"[{_span(left / high)}, {_span(left / low)}] of work. Pace of n = {n:,} in the last {_span(hours)} up to "
        f"{_moment(times[-1]):%Y-%m-%d %H:%M} UTC; 95% for a steady pace (Poisson), which people do not keep overnight."
    )
    return Card(question, answer, because, "open")


def _span(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.0f} min" if hours >= 1 / 60 else f"{hours * 3600:.0f} s"


def _moment(time: float) -> datetime:
    return datetime.fromtimestamp(float(time), UTC)
