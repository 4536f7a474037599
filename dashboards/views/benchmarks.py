"""What was asked, who answered, and how the answers scored."""

import numpy as np

from dashboards import charts, scored
from dashboards.choose import MADE_UP
from dashboards.exhibit import (
    Ask,
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
from dashboards.reader import Reader, Told
from palate.metrics import NAMES

TITLE = "Benchmarks"
MOST = 40  # systems in a chart


def content(reader: Reader, ask: Ask) -> Content:
    cases = reader.cases()
    if not cases:
        yield Missing("No case has been asked", "palate bench run shapes --system base")
        return
    yield _coverage(reader)
    yield from _scores(reader, ask)
    yield from _agreement(reader, ask)


def _scores(reader: Reader, ask: Ask) -> Content:
    cases, snapshot, scorers = reader.cases(), reader.snapshot(), reader.scorers()
    if not scorers:
        yield Missing("No sample has a score", "palate bench run shapes --system base")
        return
    scorer = ask.one("scorer", "Scorer", scored.strict_first(scorers))
    scores = reader.scores(scorer)
    values = scored.of_samples(scores, len(snapshot.sample_ids))
    asked_of = snapshot.words["case"][np.unique(snapshot.sample["case"][~np.isnan(values)])]
    parts = sorted({f"{cases[id].suite}, {cases[id].split}" for id in asked_of})
    if not parts:
        yield Remark(f"{scorer} has failed on every sample.")
        return
    part = ask.one("part", "Suite and split", parts)
    inside = [id for id in asked_of if f"{cases[id].suite}, {cases[id].split}" == part]
    found = reader.once(
        ("means", scorer, part), lambda: scored.by_system(snapshot, values, inside), ("score", "sample", "case")
    )
    order = sorted(found, key=lambda name: -(found[name].value or 0))
    share = scorers[scorer] in ("share", "fraction", "probability")
    how = fine if share else short
    table = numbers(
        [
            {
                "system": name,
                **spread("mean", found[name]),
                "n": found[name].n,
                "cases": found[name].clusters.get("cases"),
                "note": found[name].note,
            }
            for name in order
        ]
    )
    yield Exhibit(
        "scores",
        f"{scorer} on {part}",
        f"Mean score by system, unit {scorers[scorer] or 'not told'}; n samples; 95% t interval over cases. Failed "
        "scores are left out "
        "and counted in the note. A machine's number: no vote is in it. Systems may have answered different cases (see "
        "coverage).",
        table,
        {**spread_formats("mean", how), **dict.fromkeys(("n", "cases"), whole)},
        (
            charts.whiskers(
                table.head(MOST),
                "system",
                "mean",
                f"mean {scorer}, 95% interval",
                format=".0%" if share else ".3g",
            ),
        ),
    )
    tags = sorted({tag for id in inside for tag in cases[id].tags})
    if tags:
        tag = ask.one("by", "Slice by", tags)
        rows = []
        for value in sorted({cases[id].tags[tag] for id in inside if tag in cases[id].tags}):
            sliced = [id for id in inside if cases[id].tags.get(tag) == value]
            key = ("means", scorer, part, tag, value)
            of_slice = reader.once(
                key, lambda sliced=sliced: scored.by_system(snapshot, values, sliced), ("score", "sample")
            )
            for name in order[:MOST]:
                if name in of_slice:
                    one = of_slice[name]
                    cell = f"{how(one.value)}\nn {one.n:,}"
                    rows.append({tag: value, "system": name, **spread("mean", one), "n": one.n, "cell": cell})
        table = numbers(rows)
        yield Exhibit(
            "scores-slices",
            f"{scorer} by {tag}",
            "The same mean in each slice of the cases, n samples in the cell; intervals are in the data.",
            table.drop(columns="cell"),
            {**spread_formats("mean", how), "n": whole},
            (charts.heat(table, "system", tag, "mean", "cell", scorer, ".0%" if share else ".3g", None),),
        )


def _agreement(reader: Reader, ask: Ask) -> Content:
    """How well scorers agree with votes, as `palate report metrics` last told it."""
    found = reader.told("metric.")
    measures = [name for name in NAMES if any(one.name.endswith(f".{name}") for one in found)]
    if not measures:
        yield Missing("Metrics have not been held against votes", "palate report metrics")
        return
    # Correlations first: they know ties on both sides.
    labels = {NAMES[name]: name for name in sorted(measures, key=lambda name: "accuracy" in name)}
    label = ask.one("measure", "Measure of agreement", list(labels))
    told = [one for one in found if one.name.endswith(f".{labels[label]}")]
    kinds = ["SIMULATED" if simulated else "people" for simulated in sorted({one.simulated for one in told})]
    simulated = (
        ask.one("votes", "Votes", kinds, "People's votes and a program's are never counted together.") != "people"
    )
    if simulated:
        yield MADE_UP
    newest: dict[tuple[str, str, str], Told] = {}
    for one in told:
        if one.simulated == simulated:
            newest.setdefault((one.of("axis"), one.of("scorer"), one.of("study")), one)
    yield _agreeing(list(newest.values()), label, labels[label], simulated)


def _agreeing(found: list[Told], label: str, name: str, simulated: bool) -> Exhibit:
    found = sorted(found, key=lambda one: (one.of("axis"), -(one.estimate.value or 0), one.of("study")))
    rows = [
        {
            "metric": f"{one.of('scorer')}, {one.of('axis')}" + (f", {one.of('study')}" if one.of("study") else ""),
            "scorer": one.of("scorer"),
            "axis": one.of("axis"),
            "study": one.of("study") or "all",
            **spread("agreement", one.estimate),
            "n": one.estimate.n,
            "prompts": one.estimate.clusters.get("prompts"),
            "when (UTC)": f"{one.when:%Y-%m-%d %H:%M}",
            "note": one.estimate.note,
            "id": one.id,
        }
        for one in found
    ]
    table, share = numbers(rows), "accuracy" in name
    said = "From −1 to 1; 0 is chance."
    if share:
        said = (
            "A share, as published: an equal score is wrong, so a metric of few values lies low (Rewards counts half)."
        )
    units = "pairs that people order" if name == "accuracy" else "pairs" if share else "samples"
    return Exhibit(
        f"agreement-{name.replace('_', '-')}",
        f"Do metrics agree with {'the simulated annotators' if simulated else 'people'}? {label}",
        f"The newest figure of each metric, axis and study; n {units}; 95% intervals over prompts. "
        f"{said} As they were when told: "
        "palate trace ID walks a number back, and tells whether votes have come since.",
        table,
        {**spread_formats("agreement", fine if share else short), "n": whole, "prompts": whole},
        (
            charts.whiskers(
                table.head(MOST),
                "metric",
                "agreement",
                f"{label}, 95% interval",
                None if share else 0.0,
                ".0%" if share else "+.2f",
            ),
        ),
        simulated,
        open=True,
    )


def _coverage(reader: Reader) -> Exhibit:
    snapshot, cases = reader.snapshot(), reader.cases()
    parts = sorted({f"{one.suite}, {one.split}" for one in cases.values()})
    place = {part: at for at, part in enumerate(parts)}
    part_of = np.array([place[f"{cases[id].suite}, {cases[id].split}"] for id in snapshot.words["case"]], int)
    asked = {part: sum(f"{one.suite}, {one.split}" == part for one in cases.values()) for part in parts}
    rows = []
    if len(part_of):
        case, system, failed = (snapshot.sample[name] for name in ("case", "system", "failed"))
        for at, part in enumerate(parts):
            inside = part_of[case] == at
            for code in np.unique(system[inside]):
                own = inside & (system == code)
                answered = len(np.unique(case[own & (failed == 0)]))
                rows.append(
                    {
                        "suite": part,
                        "system": str(snapshot.words["system"][code]),
                        "cases answered": answered,
                        "of": asked[part],
                        "covered": answered / asked[part],
                        "samples": int(own.sum()),
                        "failed": int((own & (failed == 1)).sum()),
                    }
                )
    columns = ("suite", "system", "cases answered", "of", "covered", "samples", "failed")
    return Exhibit(
        "coverage",
        "Coverage",
        "Cases of the record that a system has a sample for. Counted in full, so without an interval; “of” counts the "
        "cases this "
        "record knows, which may be fewer than the suite has.",
        numbers(rows, columns),
        {"covered": fine, **dict.fromkeys(("cases answered", "of", "samples", "failed"), whole)},
    )
