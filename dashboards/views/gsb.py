"""Good / same / bad of two systems: may we ship, by axis, and where among the cases."""

from collections.abc import Iterator
from typing import cast

import numpy as np

from dashboards import charts, choose
from dashboards.choose import Choice
from dashboards.exhibit import (
    Ask,
    Card,
    Content,
    Exhibit,
    Item,
    Remark,
    interval,
    numbers,
    percent,
    short,
    signed,
    spread,
    spread_formats,
    whole,
)
from dashboards.reader import Reader
from palate.errors import DataError
from palate.gsb import Aggregation, Contest, Contests, contests
from palate.stats.plan import components, prompts_needed
from palate.stats.wins import Form
from palate.votes import Votes

TITLE = "GSB"


def content(reader: Reader, ask: Ask) -> Content:
    choice = choose.votes(reader, ask)
    yield from choose.opening(choice)
    if choice is None:
        return
    met = choose.pair(choice, ask)
    if met is None:
        yield Remark("No two systems have met here: these comparisons are of samples of one system, or check people.")
        return
    candidate, _ = met
    aggregation = cast("Aggregation", ask.one("rule", "Aggregation", ["pooled", "majority"], _RULES))
    key = (choice.key, met)
    votes = reader.once(("votes", key), lambda: choice.snapshot.votes(choice.verdicts(systems=met)))
    axes = choice.axes(met)
    pooled = reader.once(("gsb", key, "pooled"), lambda: contests(votes, "pooled", candidate))
    shown = reader.once(("gsb", key, aggregation), lambda: contests(votes, aggregation, candidate))
    axis = ask.one("axis", "Decide on axis", axes)
    least = (
        ask.number(
            "least",
            "Least net of worth, %",
            10,
            1,
            100,
            "The smallest gain worth shipping: the votes still needed are for showing it.",
        )
        / 100
    )
    yield decision(pooled, axis, choice.simulated)
    yield _needed(votes.select(votes.axis == axis), least, choice.simulated)
    yield from _by_axis(shown, axes, choice.simulated)
    yield from _slices(reader, ask, choice, votes, met, axis, axes)


_RULES = "pooled: every verdict counts once. majority: every comparison counts once, which exaggerates (README)."


def decision(found: list[Contest], axis: str, simulated: bool) -> Card:
    """The answer by intervals that hold at every look, so that watching this page does no harm."""
    by_axis = {one.basis.axis: one for one in found}
    one = by_axis[axis]
    net = one.anytime
    worse = [a for a, c in by_axis.items() if c.anytime and c.anytime.high is not None and c.anytime.high < 0]
    question = f"May we ship {one.candidate} in place of {one.baseline}?"
    if net is None or net.low is None or net.high is None:
        answer, tone = "Not known: too little to tell", "open"
    elif net.low > 0 and not worse:
        answer, tone = f"Yes: better on {axis}, and on no axis worse", "good"
    elif net.low > 0:
        answer, tone = f"Hold: better on {axis}, but worse on {', '.join(worse)}", "bad"
    elif net.high < 0:
        answer, tone = f"No: worse on {axis}", "bad"
    else:
        answer, tone = "Not yet known: the interval still holds zero", "open"
    because = (
        f"Net (G−B)/N on {axis}: {interval(net, signed) if net else '–'}, an interval that holds at every look. "
        f"{_behind(one)}. "
        "It says nothing of how large a gain is worth; axes are looked at one by one, without correction."
    )
    if simulated:
        because = f"Among SIMULATED votes: “{answer}”. " + because
        answer, tone = "No answer: no person has voted", "open"
    return Card(question, answer, because, tone)  # type: ignore[arg-type]


def _needed(votes: Votes, least: float, simulated: bool) -> Card:
    """How many more votes a single look at the end would take."""
    question = f"How many votes would show a net of {least:.0%}?"
    try:
        counted = Contests()
        counted.add(votes)
        parts = components(next(counted.counts()))
    except DataError as error:
        return Card(question, "Cannot be planned from these votes", str(error), "open")
    people, prompts = len(set(votes.annotator.tolist())), len(set(votes.case.tolist()))
    overlap = min(max(round(len(votes) / prompts), 1), people)
    needed = {n: prompts_needed(parts, least, n, overlap) for n in (people, 2 * people, 4 * people)}
    enough = needed[people]
    if enough is None:
        answer = f"No number of prompts is enough with {people} people: ask more people"
    elif enough <= prompts:
        answer = f"None: {prompts:,} prompts are enough ({enough:,} needed)"
    else:
        answer = f"{(enough - prompts) * overlap:,} more: {enough:,} prompts x {overlap}, and there are {prompts:,}"
    who = "simulated annotators" if simulated else "people"
    plans = "; ".join(f"{n} people: {'none is enough' if p is None else f'{p:,} prompts'}" for n, p in needed.items())
    because = (
        f"With probability 80%, two-sided at 5%, {overlap} votes a prompt, one look at the end. {plans}. Variance of a "
        f"verdict between prompts {parts.prompt:.2f}, between people {parts.annotator:.2f}, rest {parts.rest:.2f}, "
        f"from n = {len(votes):,} verdicts of {prompts:,} prompts and {people} {who}."
    )
    return Card(question, answer, because, "open")


def _by_axis(found: list[Contest], axes: list[str], simulated: bool) -> Iterator[Item]:
    found = sorted(found, key=lambda one: axes.index(one.basis.axis))
    table = numbers([_row(one) for one in found])
    names = found[0].candidate, found[0].baseline
    methods = "; ".join(sorted({one.forms[Form.NET].method for one in found}))
    notes = "; ".join(sorted({one.forms[Form.NET].note for one in found} - {""}))
    says = (
        f"G, S and B count {'verdicts' if found[0].aggregation == 'pooled' else 'majorities of a comparison'} from the "
        "side of "
        f"{names[0]}; {_behind(found[0])}. Ratio (G+S)/(B+S); net (G−B)/N. Intervals 95%: {methods}. p: two-sided for "
        "net = 0, "
        f"Holm over axes.{f' {notes}.' if notes else ''}"
    )
    yield Exhibit(
        "gsb-by-axis",
        f"{names[0]} against {names[1]}, by axis",
        says,
        table,
        {
            **spread_formats("ratio", percent),
            **spread_formats("net", signed),
            **spread_formats("net at any time", signed),
            **dict.fromkeys(("good", "same", "bad", "both bad", "n", "prompts", "people"), whole),
            "p (Holm)": short,
        },
        (
            charts.stacked(table, "axis", axes),
            charts.whiskers(table, "axis", "net", "net (G−B)/N, 95% interval", 0.0),
        ),
        simulated,
        open=True,
    )


def _row(one: Contest) -> dict[str, object]:
    return {
        "axis": one.basis.axis,
        "good": one.good,
        "same": one.same,
        "bad": one.bad,
        "both bad": one.both_bad,
        **spread("ratio", one.forms[Form.RATIO]),
        **spread("net", one.forms[Form.NET]),
        **(spread("net at any time", one.anytime) if one.anytime else {}),
        "p (Holm)": one.p_holm,
        "n": one.good + one.same + one.bad,
        "prompts": one.basis.prompts,
        "people": one.basis.people,
    }


def _behind(one: Contest) -> str:
    """On what the numbers rest."""
    people = "people unknown" if one.basis.people is None else f"{one.basis.people} people"
    people = people.replace("people", "simulated annotators") if one.basis.simulated else people
    return f"{one.basis.votes:,} verdicts on {one.basis.prompts:,} prompts by {people}; {one.aggregation}"


def _slices(
    reader: Reader, ask: Ask, choice: Choice, votes: Votes, met: tuple[str, str], axis: str, axes: list[str]
) -> Content:
    cases = reader.cases()
    asked = [cases[id] for id in dict.fromkeys(votes.case.tolist())]
    tags = sorted({tag for one in asked for tag in one.tags})
    if not tags:
        yield Remark("The cases of these votes have no tags, so there are no slices.")
        return
    rows = ask.one("by", "Slice by", tags)
    across = ask.one("across", "and across", ["axes", *(tag for tag in tags if tag != rows)])
    part = votes if across == "axes" else votes.select(votes.axis == axis)

    def cells() -> list[Contest]:
        seen = set(part.case.present())
        named = {one.id: _names(one.tags, rows, across) for one in asked if one.id in seen}
        sliced = {id: names for id, names in named.items() if names}
        return contests(part, "pooled", met[0], slices=sliced) if sliced else []

    found = reader.once(
        ("gsb slices", choice.key, met, axis if across != "axes" else "", rows, across), cells, (*_ALL,)
    )
    if not found:
        yield Remark(f"No case of these votes is tagged with both {rows} and {across}.")
        return
    table = numbers([_cell(one, rows, across) for one in found])
    if across == "axes":
        table = table.sort_values(by=[rows, across], key=lambda c: c.map(axes.index) if c.name == across else c)
    wide = len(set(table[rows])) <= 4 < len(set(table[across]))
    places = (across, rows) if wide else (rows, across)
    told = "all axes" if across == "axes" else axis
    yield Exhibit(
        "gsb-slices",
        f"Net by {rows} and {across}: {met[0]} against {met[1]}",
        f"Net (G−B)/N of pooled verdicts, {told}. n in each cell; ● where its 95% interval leaves out zero. "
        f"{len(table)} intervals are looked at, so about {0.05 * len(table):.1f} would leave it out by chance alone.",
        table.drop(columns="cell"),
        {**spread_formats("net", signed), "n": whole, "prompts": whole},
        (charts.heat(table, *places, "net", "cell", "net", "+.0%", 0.0),),
        choice.simulated,
    )


_ALL = ("judgement", "comparison", "sample", "case")
_BETWEEN = " × "


def _names(tags: dict[str, str], rows: str, across: str) -> tuple[str, ...]:
    """The slices that a case is in; a tag may have several values."""
    mine = tags[rows].split("; ") if rows in tags else []
    if across == "axes":
        return tuple(mine)
    return tuple(f"{one}{_BETWEEN}{other}" for one in mine for other in tags.get(across, "").split("; ") if other)


def _cell(one: Contest, rows: str, across: str) -> dict[str, object]:
    net = one.forms[Form.NET]
    row, _, column = one.slice.partition(_BETWEEN)
    sure = net.low is not None and net.high is not None and not net.low <= 0 <= net.high
    n = one.good + one.same + one.bad
    value = np.nan if net.value is None else net.value
    label = f"{value:+.0%}{' ●' if sure else ''}\nn {n:,}"
    cell = {rows: row, across: column or one.basis.axis, **spread("net", net), "n": n, "prompts": one.basis.prompts}
    return {**cell, "cell": label}
