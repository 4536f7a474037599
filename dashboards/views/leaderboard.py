"""All systems on one axis: ratings and ranks, who beats whom, and releases against a pinned baseline."""

from dashboards import charts, choose
from dashboards.choose import Choice
from dashboards.exhibit import Ask, Content, Exhibit, Remark, fine, numbers, signed, spread, spread_formats, whole
from dashboards.reader import Reader
from palate.gsb import Contest, contests
from palate.standings import Standing, standings
from palate.stats.wins import Form

TITLE = "Leaderboard"
PRELIMINARY = 300  # verdicts below which arenas hide a system or call it preliminary
LADDER = 40  # systems in the chart of the ladder and in the trend's: more are a wall that nobody reads
MATRIX = 12  # systems in the matrices unless asked otherwise: more cannot be read on a screen


def content(reader: Reader, ask: Ask) -> Content:
    choice = choose.votes(reader, ask)
    yield from choose.opening(choice)
    if choice is None:
        return
    axes = choice.axes()
    if not axes:
        yield Remark("No two systems have met here: these comparisons are of samples of one system, or check people.")
        return
    axis = ask.one("axis", "Axis", axes)
    key = (choice.key, axis)
    found, missing = reader.once(("ratings", key), lambda: standings(choice.snapshot.votes(choice.verdicts(axis))))
    yield from (Remark(one, warning=True) for one in missing)
    if found:
        yield _ladder(found, axis, choice.simulated)
    order = [one.system for one in found] or sorted({name for names in choice.pairs(axis) for name in names})
    yield from _matrices(reader, ask, choice, axis, order)
    yield from _trend(reader, ask, choice, axis, order)


def _ladder(found: list[Standing], axis: str, simulated: bool) -> Exhibit:
    table = numbers(
        [
            {
                "rank": place,
                "system": one.system,
                **spread("rating", one.elo),
                "rank from": one.rank[0],
                "rank to": one.rank[1],
                "rank (UB)": one.arena_rank,
                **spread("win rate", one.win_rate),
                "n": one.basis.votes,
                "prompts": one.basis.prompts,
                "people": one.basis.people,
                "standing": "preliminary" if one.basis.votes < PRELIMINARY else "",
            }
            for place, one in enumerate(found, 1)
        ]
    )
    unsure = sorted({one.elo.note for one in found} - {""})
    return Exhibit(
        "ratings",
        f"Ratings on {axis}",
        "Elo points with a mean of 1000; 100 points are odds of 64% to 36%. Ranks: below those significantly above it, "
        "each pair at 5%; "
        f"(UB) as LMArena counts. {_first(found)}Win rate G/(G+B) over all opponents. Fewer than "
        f"{PRELIMINARY} verdicts: preliminary. n counts verdicts, pooled. Intervals 95%: "
        f"{found[0].elo.method}.{' ' + '; '.join(unsure) + '.' if unsure else ''}",
        table,
        {
            **spread_formats("rating", whole),
            **spread_formats("win rate", fine),
            **dict.fromkeys(("rank", "rank from", "rank to", "rank (UB)", "n", "prompts", "people"), whole),
        },
        (charts.whiskers(table.head(LADDER), "system", "rating", "rating (Elo), 95% interval", format=",.0f"),),
        simulated,
        open=True,
    )


def _first(found: list[Standing]) -> str:
    """What of the ladder its chart leaves out."""
    return f"The chart has the first {LADDER} of {len(found)}, the data all. " if len(found) > LADDER else ""


def _matrices(reader: Reader, ask: Ask, choice: Choice, axis: str, order: list[str]) -> Content:
    most = len(order)
    if most > MATRIX:
        most = int(ask.number("top", "Systems in the matrices", MATRIX, 2, 40, "The first of the ladder."))
    top = order[:most]
    found = reader.once(
        ("matrix", choice.key, axis, tuple(top)), lambda: _contests(choice, choice.verdicts(axis, top, among=True))
    )
    if not found:
        return
    rows = [row for one in found for row in _both_ways(one)]
    rows.sort(key=lambda row: (top.index(str(row["system"])), top.index(str(row["against"]))))
    table = numbers(rows)
    says = (
        "Row against column, pooled verdicts. G/(G+B): 50% is even, ties left out; "
        f"● where the 95% interval leaves out 50%. n under it. {found[0].forms[Form.WIN_RATE].method}."
    )
    yield Exhibit(
        "matrix",
        f"Who beats whom on {axis}" + (f", first {most} of {len(order)}" if most < len(order) else ""),
        says,
        table.drop(columns=["cell", "count"]),
        {**spread_formats("win rate", fine), "n": whole},
        (
            charts.heat(table, "system", "against", "win rate", "cell", "G/(G+B)", ".0%", 0.5),
            charts.heat(table, "system", "against", "n", "count", "verdicts", ",.0f", None),
        ),
        choice.simulated,
    )


def _contests(choice: Choice, kept: choose.Mask, baseline: str | None = None) -> list[Contest]:
    return contests(choice.snapshot.votes(kept), "pooled", baseline=baseline) if kept.any() else []


def _both_ways(one: Contest) -> list[dict[str, object]]:
    rate = one.forms[Form.WIN_RATE]
    n = one.good + one.same + one.bad
    sure = rate.low is not None and rate.high is not None and not rate.low <= 0.5 <= rate.high
    ways = (
        (one.candidate, one.baseline, rate.value, rate.low, rate.high),
        (one.baseline, one.candidate, *(None if x is None else 1 - x for x in (rate.value, rate.high, rate.low))),
    )
    return [
        {
            "system": system,
            "against": against,
            "win rate": value,
            "win rate low": low,
            "win rate high": high,
            "n": n,
            "cell": f"{fine(value)}{' ●' if sure else ''}\nn {n:,}",
            "count": f"{n:,}",
        }
        for system, against, value, low, high in ways
    ]


def _trend(reader: Reader, ask: Ask, choice: Choice, axis: str, order: list[str]) -> Content:
    met = {name for names in choice.pairs(axis) for name in names}
    debuts = {system: at for system, at in reader.debuts().items() if system in met}
    pinned = ask.one("pinned", "Pinned baseline", list(debuts))
    found = reader.once(
        ("trend", choice.key, axis, pinned), lambda: _contests(choice, choice.verdicts(axis, [pinned]), pinned)
    )
    if not found:
        return
    place = {system: at for at, system in enumerate(debuts)}
    found = sorted(found, key=lambda one: place[one.candidate])
    rows = [
        {
            "release": one.candidate,
            "first sample": debuts[one.candidate].strftime("%Y-%m-%d %H:%M"),
            **spread("net", one.anytime or one.forms[Form.NET]),
            "significant": _significant(one),
            "n": one.good + one.same + one.bad,
            "prompts": one.basis.prompts,
            "people": one.basis.people,
        }
        for one in found
    ]
    table = numbers(rows)
    yield Exhibit(
        "trend",
        f"Releases against {pinned}, on {axis}",
        "In the order in which a system's first sample was recorded, oldest first. Net (G−B)/N of pooled verdicts with "
        "the 95% interval "
        "that holds at every look; “better” and “worse” where it leaves out zero, each release by itself.",
        table,
        {**spread_formats("net", signed), **dict.fromkeys(("n", "prompts", "people"), whole)},
        (charts.whiskers(table.tail(LADDER), "release", "net", "net (G−B)/N, any time", 0.0),),
        choice.simulated,
    )


def _significant(one: Contest) -> str:
    net = one.anytime
    if net is None or net.low is None or net.high is None:
        return "unknown"
    return "better" if net.low > 0 else "worse" if net.high < 0 else "not yet known"
