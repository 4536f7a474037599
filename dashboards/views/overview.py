"""Where the loop stands: what the record holds, what was decided last, and what was written last."""

from datetime import UTC, datetime

from dashboards import queries
from dashboards.exhibit import Ask, Content, Exhibit, Missing, Remark, fine, numbers, spread, spread_formats, whole
from dashboards.queries import utc
from dashboards.reader import Reader
from dashboards.runs import row, runs
from dashboards.views.gsb import decision
from palate.gsb import contests
from palate.records import RECORDS, Estimate

TITLE = "Overview"

_LOOP = {
    "case": ("asked", "palate bench list"),
    "sample": ("generated", "palate bench run shapes --system base"),
    "score": ("measured by programs", "palate bench run shapes --system base"),
    "comparison": ("shown blind", "palate annotate plan"),
    "judgement": ("judged", "palate annotate serve, palate annotate simulate or palate votes import"),
    "preference": ("learnt from", "palate annotate prefer"),
    "run": ("trained", "palate align dpo"),
    "curve": ("reported while training", "palate align dpo"),
    "glimpse": ("drawn while training", "palate align dpo"),
    "figure": ("told to somebody", "palate report gsb"),
}
_CONTESTS = 2  # of which it is said whether to ship
_DECISIONS = 400  # figures looked through for those below


def content(reader: Reader, ask: Ask) -> Content:
    del ask
    if not sum(reader.counts.values()):
        yield Missing("The record is empty", "palate demo")
        return
    snapshot = reader.snapshot()
    if True in snapshot.kinds():
        people = (
            "No person has voted." if snapshot.kinds() == [True] else "People have voted too; the two are never mixed."
        )
        yield Remark(f"This record holds SIMULATED votes, made up by a program. {people}", warning=True)
    yield from _latest(reader)
    yield _loop(reader)
    yield from _studies(reader)
    yield from _decisions(reader)
    yield from _runs(reader)


def _latest(reader: Reader) -> Content:
    """Of the last pairs of systems that met, newest study first: people's, where people have judged any."""
    snapshot = reader.snapshot()
    shown: set[tuple[str, str]] = set()
    for simulated in snapshot.kinds()[:1]:
        for study in snapshot.studies(simulated):
            met = next(iter(snapshot.pairs(snapshot.chosen(simulated, study))), None)
            if met is None or met in shown:
                continue
            kept = snapshot.chosen(simulated, study, systems=met)
            found = reader.once(
                ("decision", simulated, study),
                lambda kept=kept, met=met: contests(snapshot.votes(kept), candidate=met[0]),
            )
            yield decision(found, snapshot.axes(kept)[0], simulated)
            shown.add(met)
            if len(shown) == _CONTESTS:
                return


def _loop(reader: Reader) -> Exhibit:
    rows = []
    for kind, (what, command) in _LOOP.items():
        count = reader.counts[kind]
        last = reader.once(("latest", kind), lambda kind=kind: queries.latest(reader.store, kind), (kind,))
        rows.append(
            {
                "kind": kind,
                "what": what,
                "records": count,
                "last written (UTC)": f"{utc(last):%Y-%m-%d %H:%M:%S}" if last else "never",
                "ago": _ago(utc(last)) if last else "",
                "next": "" if count else command,
            }
        )
    assert len(rows) == len(RECORDS)
    return Exhibit(
        "loop",
        "The loop, step by step",
        "Records of each kind, counted in full (no sample, so no interval). A record says what was written, not what "
        "is running: "
        "a step that is being worked on has just been written to.",
        numbers(rows),
        {"records": whole},
    )


def _judged(reader: Reader) -> list[dict[str, object]]:
    """A row for each study and kind of vote."""
    snapshot = reader.snapshot()
    rows: list[dict[str, object]] = []
    for simulated in snapshot.kinds():
        kind = (snapshot.judgement["simulated"] == simulated) & snapshot.judgement["stands"]
        for study in snapshot.studies(simulated):
            of_study = snapshot.comparison["study"] == snapshot.code("study", study)
            mine = kind & of_study[snapshot.judgement["comparison"]]
            met = snapshot.pairs(snapshot.chosen(simulated, study))
            first = next(iter(met), None)
            times = snapshot.judgement["time"][mine] if mine.any() else snapshot.judgement["time"]
            rows.append(
                {
                    "study": study,
                    "votes": "SIMULATED" if simulated else "people",
                    "mostly": f"{first[0]} against {first[1]}" if first else "one system",
                    "comparisons": int(of_study.sum()),
                    "judged": len(set(snapshot.judgement["comparison"][mine].tolist())),
                    "judgements": int(mine.sum()),
                    "annotators": len(set(snapshot.judgement["annotator"][mine].tolist())),
                    "last (UTC)": f"{datetime.fromtimestamp(float(times.max()), UTC):%Y-%m-%d %H:%M}",
                }
            )
    return rows


def _studies(reader: Reader) -> Content:
    rows = reader.once("studies", lambda: _judged(reader))
    if rows:
        yield Exhibit(
            "studies",
            "Studies",
            "Judgements that stand, counted in full. A study with people's and simulated votes has two rows.",
            numbers(rows),
            dict.fromkeys(("comparisons", "judged", "judgements", "annotators"), whole),
        )
    else:
        yield Missing("No study has been judged", "palate annotate plan --study NAME --candidate A --baseline B")


def _decisions(reader: Reader) -> Content:
    found = reader.once("figures", lambda: queries.figures(reader.store, _DECISIONS), ("figure",))
    rows = []
    for one in sorted(found, key=lambda one: (-one.recorded_at.timestamp(), str(one.selection), one.name)):
        if not one.name.startswith(("gsb.overall.net", "score.")) or one.name.endswith("not_worse"):
            continue
        estimate = Estimate.model_validate(one.estimate)
        chosen = one.selection
        sure = estimate.low is not None and estimate.high is not None and not estimate.low <= 0 <= estimate.high
        difference = "net" in one.name or "difference" in one.name
        rows.append(
            {
                "when (UTC)": f"{utc(one.recorded_at):%Y-%m-%d %H:%M}",
                "figure": one.name,
                "of": str(chosen.get("candidate") or chosen.get("system")),
                "against": str(chosen.get("baseline", "")),
                **spread("value", estimate),
                "differs": ("yes" if sure else "not yet known") if difference else "",
                "n": estimate.n,
                "from": ("SIMULATED" if one.simulated else "people")
                if one.name.startswith("gsb")
                else chosen.get("scorer"),
                "rule": estimate.method,
                "id": one.id,
            }
        )
    if rows:
        yield Exhibit(
            "decisions",
            "The last numbers somebody was shown",
            "Net (G−B)/N overall, and mean scores and their paired differences, as they were when shown; 95% "
            "intervals, rule and n beside them. "
            "An id can be walked back on the page Samples, or by palate trace ID.",
            numbers(rows),
            {**spread_formats("value", fine), "n": whole},
        )
    else:
        yield Missing("No figure has been told", "palate report gsb")


def _runs(reader: Reader) -> Content:
    found = runs(reader)
    if not found:
        yield Missing("No run has been recorded", "palate align dpo --study NAME")
        return
    rows = [row(one, {"reads": len(one.parents)}) for one in found[:20]]
    yield Exhibit(
        "runs",
        "Last runs",
        f"The newest {len(rows)} of {len(found)}; a run is recorded when it ends.",
        numbers(rows),
        {"reads": whole, "seed": str},
    )


def _ago(time: datetime) -> str:
    seconds = max((datetime.now(UTC) - time).total_seconds(), 0)
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name} ago"
    return "just now"
