"""Who judges, how well they agree, whom to talk to, and when the work will be done."""

from datetime import UTC, datetime, timedelta

import altair as alt
import numpy as np
import pandas as pd
from scipy import stats

from dashboards import charts, choose
from dashboards.choose import Choice
from dashboards.exhibit import Ask, Card, Content, Exhibit, Remark, fine, numbers, short, spread, spread_formats, whole
from dashboards.ledger import Ints
from dashboards.reader import Reader
from palate.accords import accords
from palate.records import Estimate

TITLE = "Annotators"
POINTS = 400  # of the burn-up: more cannot be told apart on a screen
WINDOW = timedelta(hours=24)  # the pace is measured over the last of it in which there was work


def content(reader: Reader, ask: Ask) -> Content:
    choice = choose.votes(reader, ask)
    yield from choose.opening(choice)
    if choice is None:
        return
    axes = choice.snapshot.axes(choice.verdicts(ordinary=False))
    if axes:
        axis = ask.one("axis", "Axis", axes)
        table = reader.once(("annotators", choice.key, axis), lambda: _quality(choice, axis))
        yield Exhibit(
            "annotators",
            f"Annotators on {axis}",
            "Shares with 95% Wilson intervals, n behind each. gold: known answers given. left: the left side among "
            "decided verdicts; "
            "p of favouring no side. same: share of `same`. repeat: repeats answered as before. as others: the sign of "
            "the "
            "others' sum on the same comparison. Each is a question to ask of a person, not a judgement of one; "
            "`palate annotate quality` weighs them. A share that nobody has an n for is left out.",
            table,
            {
                **{k: v for name in _SHARES for k, v in spread_formats(name, fine).items()},
                **dict.fromkeys(("judgements", "verdicts", "skips", *(f"{name} n" for name in _SHARES)), whole),
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
    person = snapshot.judgement["annotator"][judgement]
    comparison = snapshot.comparison
    sided, role = comparison["side"][at] * outcome, comparison["role"][at]
    normal = role != 1
    sums = np.bincount(at, outcome * normal, len(comparison["study"]))
    voters = np.bincount(at, normal, len(comparison["study"]))
    others, alone = np.sign(sums[at] - outcome), voters[at] < 2
    everyone = choice.study is None or comparison["study"][snapshot.judgement["comparison"]] == snapshot.code(
        "study", choice.study
    )
    asked = (snapshot.judgement["simulated"] == choice.simulated) & snapshot.judgement["stands"] & everyone
    shown = (person, comparison["candidate"][at], comparison["baseline"][at], outcome)
    again = _again(*(column[normal] for column in shown))
    rows = []
    for code in np.unique(person):
        own = person == code
        mine = asked & (snapshot.judgement["annotator"] == code)
        seconds = snapshot.judgement["seconds"][mine]
        decided = own & (sided != 0)
        left = int((sided[decided] > 0).sum())
        shares = {
            "gold": (own & (role == 1) & (outcome > 0), own & (role == 1)),
            "left": (decided & (sided > 0), decided),
            "same": (own & (outcome == 0), own),
            "as others": (own & normal & ~alone & (others == outcome), own & normal & ~alone),
        }
        found = {name: _wilson(int(hits.sum()), int(of.sum())) for name, (hits, of) in shares.items()}
        found["repeat"] = _wilson(*again.get(int(code), (0, 0)))
        rows.append(
            {
                "annotator": str(snapshot.words["annotator"][code]),
                "judgements": int(mine.sum()),
                "verdicts": int(own.sum()),
                "skips": int((mine & (snapshot.judgement["skipped"] == 1)).sum()),
                "median seconds": float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else None,
                **{
                    k: v
                    for name in _SHARES
                    for k, v in {**spread(name, found[name]), f"{name} n": found[name].n}.items()
                },
                "left p": float(stats.binomtest(left, int(decided.sum())).pvalue) if decided.any() else None,
            }
        )
    unused = [name for name in _SHARES if not any(row[f"{name} n"] for row in rows)]
    lost = [column for name in unused for column in (name, f"{name} low", f"{name} high", f"{name} n")]
    return numbers(sorted(rows, key=lambda row: str(row["annotator"]))).drop(columns=lost)


def _again(person: Ints, candidate: Ints, baseline: Ints, outcome: Ints) -> dict[int, tuple[int, int]]:
    """Person -> (answered the same, answered twice), over pairs of samples that they were shown more than once."""
    asked = np.stack([person, candidate, baseline], axis=1)
    shown, which, times = np.unique(asked, axis=0, return_inverse=True, return_counts=True)
    least, most = np.ones(len(shown)), -np.ones(len(shown))
    np.minimum.at(least, which, outcome)
    np.maximum.at(most, which, outcome)
    twice = times > 1
    found: dict[int, tuple[int, int]] = {}
    for code in np.unique(shown[twice, 0]):
        own = twice & (shown[:, 0] == code)
        found[int(code)] = int((least == most)[own].sum()), int(own.sum())
    return found


def _wilson(hits: int, n: int) -> Estimate:
    if not n:
        return Estimate(value=None, low=None, high=None, n=0, method="Wilson", note="nothing to count")
    found = stats.binomtest(hits, n).proportion_ci(method="wilson")
    return Estimate(value=hits / n, low=float(found.low), high=float(found.high), n=n, method="Wilson")


def _agreement(reader: Reader, choice: Choice) -> Content:
    kept = choice.verdicts()
    found = reader.once(("accords", choice.key), lambda: accords(choice.snapshot.votes(kept)) if kept.any() else [])
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
        (charts.whiskers(table, "axis", "alpha", "alpha, ordinal, 95% interval", table["axis"].tolist(), 0.0, ".2f"),),
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
                x=alt.X("time:T", title=None, axis=alt.Axis(labelOverlap=True)),
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
