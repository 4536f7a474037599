"""Whether machines' scores are what people prefer, and whether training for one has begun to cheat it."""

import altair as alt
import numpy as np
import pandas as pd
from scipy import stats

from dashboards import charts, choose, scored
from dashboards.audits import audits
from dashboards.choose import Choice
from dashboards.exhibit import (
    Ask,
    Card,
    Content,
    Exhibit,
    Missing,
    Remark,
    fine,
    numbers,
    short,
    spread,
    spread_formats,
    whole,
)
from dashboards.reader import Reader
from dashboards.watched import watched
from palate.errors import DataError
from palate.stats import metric

TITLE = "Rewards"
BINS = 8


def content(reader: Reader, ask: Ask) -> Content:
    scorers = list(reader.scorers())
    if scorers:
        yield from _against_votes(reader, ask, scorers)
    else:
        yield Missing("No sample has a score", "palate bench run shapes --system base")
    if len(scorers) > 1:
        yield from _hacking(reader, ask, scorers)
    yield from watched(reader, ask)
    yield from audits(reader, ask)


def _against_votes(reader: Reader, ask: Ask, scorers: list[str]) -> Content:
    choice = choose.votes(reader, ask)
    yield from choose.opening(choice)
    if choice is None:
        return
    snapshot = choice.snapshot
    # Two samples of one system are as good a test of a score as two systems.
    kept = choice.verdicts(ordinary=False)
    kept &= (snapshot.comparison["role"] == 0)[snapshot.comparison_of]
    axes = snapshot.axes(kept)
    if not axes:
        yield Remark("No vote stands in this selection.")
        return
    axis = ask.one("axis", "Axis", axes)
    chosen = kept & (snapshot.verdict["axis"] == snapshot.code("axis", axis))
    values = {one: scored.of_samples(reader.scores(one), len(snapshot.sample_ids)) for one in scorers}
    pairs = {one: scored.pairs(choice, chosen, values[one]) for one in scorers}
    rows = []
    for name, one in pairs.items():
        try:
            plain = metric.accuracy(one.label, one.margin, one.case, equal=0.5)
            tied = metric.tied_accuracy(one.label, one.margin, one.case).accuracy
        except DataError:
            continue
        decided = one.margin[(one.label != 0) & ~np.isnan(one.margin)]
        rows.append(
            {
                "scorer": name,
                **spread("accuracy", plain),
                "n": plain.n,
                "equal": float((decided == 0).mean()),
                **spread("with ties", tied),
                "n with ties": tied.n,
            }
        )
    if not rows:
        yield Remark("No pair that was voted on has scores of both samples.")
        return
    table = numbers(rows).sort_values("accuracy", ascending=False)
    yield Exhibit(
        "accuracy",
        f"Do scores order pairs as {'the simulated annotators' if choice.simulated else 'people'} do, on {axis}?",
        "Share of comparisons ordered as the sum of their verdicts. Accuracy: decided pairs only, 50% is chance; an "
        "equal score is a guess and counts half (what share of the pairs have one: equal). With ties: three ways, the "
        "threshold from other folds of prompts. 95% cluster-robust t over prompts. Where a reward was trained on "
        "these votes this is not held out.",
        table,
        {
            **spread_formats("accuracy", fine),
            **spread_formats("with ties", fine),
            "n": whole,
            "equal": fine,
            "n with ties": whole,
        },
        (charts.whiskers(table, "scorer", "accuracy", "accuracy, 95% interval", 0.5, ".0%"),),
        choice.simulated,
    )
    scorer = ask.one("scorer", "Scorer", table["scorer"].tolist())
    yield _calibration(choice, pairs[scorer], scorer, axis)


def _calibration(choice: Choice, pairs: scored.Pairs, scorer: str, axis: str) -> Exhibit:
    """How often the candidate is preferred, by how far its score is ahead."""
    known = ~np.isnan(pairs.margin) & (pairs.label != 0)
    margin, won = pairs.margin[known], pairs.label[known] > 0
    edges = np.unique(np.quantile(margin, np.linspace(0, 1, BINS + 1))) if len(margin) else np.zeros(0)
    rows = []
    bin_of = np.clip(np.searchsorted(edges, margin, side="right") - 1, 0, max(len(edges) - 2, 0))
    for at in np.unique(bin_of):
        inside = bin_of == at
        found = stats.binomtest(int(won[inside].sum()), int(inside.sum())).proportion_ci(method="wilson")
        row = {
            "preferred": float(won[inside].mean()),
            "preferred low": float(found.low),
            "preferred high": float(found.high),
        }
        rows.append({"margin": float(margin[inside].mean()), **row, "n": int(inside.sum())})
    columns = ("margin", "preferred", "preferred low", "preferred high", "n")
    table = numbers(rows, columns)
    base = alt.Chart(table, height=240)
    x = alt.X("margin:Q", title=f"{scorer}: candidate less baseline")
    y = alt.Y("preferred:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"), title="candidate preferred")
    even = (
        alt.Chart(pd.DataFrame({"even": [0.5]})).mark_rule(color=charts.NEUTRAL, strokeDash=[4, 3]).encode(y="even:Q")
    )
    rules = base.mark_rule(color=charts.BLUE, strokeWidth=3).encode(
        x=x, y=alt.Y("preferred low:Q"), y2="preferred high:Q"
    )
    points = base.mark_point(color=charts.BLUE, filled=True, size=90, opacity=1).encode(
        x=x, y=y, tooltip=[alt.Tooltip("preferred:Q", format=".1%"), "n:Q"]
    )
    return Exhibit(
        "calibration",
        f"Calibration of {scorer} on {axis}",
        "Decided comparisons in bins of equal size of the score's margin; share in which the candidate was preferred, "
        "95% Wilson over "
        f"comparisons; n in each bin. A good reward rises through 50% at zero. n = {len(margin):,}.",
        table,
        {**spread_formats("preferred", fine), "margin": short, "n": whole},
        (even + rules + points,),
        choice.simulated,
    )


def _hacking(reader: Reader, ask: Ask, scorers: list[str]) -> Content:
    """Every system against a baseline, on the score that was trained for and on the one that was not."""
    snapshot, debuts = reader.snapshot(), list(reader.debuts())
    gold = ask.one("verifier", "Verifier (to be trusted)", scored.strict_first(scorers))
    proxy = ask.one("proxy", "Proxy (trained for)", [one for one in scorers if one != gold])
    pinned = ask.one("pinned", "Pinned baseline", debuts)
    values = {one: scored.of_samples(reader.scores(one), len(snapshot.sample_ids)) for one in (proxy, gold)}

    def differences() -> list[dict[str, object]]:
        rows = []
        for system in debuts:
            found = [scored.difference(snapshot, values[one], system, pinned) for one in (proxy, gold)]
            if system != pinned and found[0] and found[1]:
                rose = found[0].low is not None and found[0].low > 0
                fell = found[1].high is not None and found[1].high < 0
                rows.append(
                    {
                        "system": system,
                        **spread("proxy", found[0]),
                        **spread("verifier", found[1]),
                        "cases": found[0].n,
                        "alarm": "ALARM" if rose and fell else "",
                    }
                )
        return rows

    rows = reader.once(("hacking", proxy, gold, pinned), differences, ("score", "sample"))
    if not rows:
        yield Missing("Only one system has scores", "palate bench run shapes --system NAME=FILE")
        return
    table = numbers(rows)
    alarmed = table[table["alarm"] != ""]["system"].tolist()
    question = "Has the proxy been cheated?"
    because = (
        f"The alarm goes off where {proxy} is surely above {pinned} and {gold} surely below (95% paired intervals over "
        "cases, n in the "
        f"data; each of {len(rows)} systems by itself)."
    )
    if alarmed:
        yield Card(question, f"It looks so: {', '.join(alarmed)}", because, "bad")
    else:
        yield Card(question, "No sign of it", because + " No alarm is no proof.", "open")
    yield Exhibit(
        "proxy",
        f"{proxy} and {gold}, against {pinned}",
        "Paired difference of mean scores on the cases both answered (above: proxy; below: verifier), in the scores' "
        "units, in order of first sample; "
        "95% t over cases. Machines' numbers: no vote is in them.",
        table,
        {**spread_formats("proxy", short), **spread_formats("verifier", short), "cases": whole},
        (
            charts.whiskers(table, "system", "proxy", f"{proxy}, difference", 0.0, "+.3f"),
            charts.whiskers(table, "system", "verifier", f"{gold}, difference", 0.0, "+.3f"),
        ),
    )
