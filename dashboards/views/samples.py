"""One case at a time: the videos side by side, what was said and measured of them, and the walk back."""

from collections.abc import Generator

import numpy as np

from dashboards import choose
from dashboards.choose import Choice
from dashboards.exhibit import (
    Ask,
    Clip,
    Clips,
    Content,
    Exhibit,
    Item,
    Missing,
    Remark,
    Text,
    numbers,
    short,
    signed,
    whole,
)
from dashboards.reader import Asked, Reader
from palate.errors import PalateError
from palate.provenance import as_text, walk
from palate.records import Sample, Score

TITLE = "Samples"
LISTED = 50  # cases that are offered to look at
SHOWN = 8  # videos on a screen

Listed = Generator[Item, None, Asked | None]  # of which the caller gets the case to look at

_ORDERS = ["worst first", "best first", "most disputed first"]


def content(reader: Reader, ask: Ask) -> Content:
    if not reader.counts["sample"]:
        yield Missing("There are no samples", "palate bench run shapes --system base")
        return
    choice = choose.votes(reader, ask)
    met = None if choice is None else choose.pair(choice, ask)
    found = ask.text("find", "Prompt contains").strip().lower()
    cases = {id: one for id, one in reader.cases().items() if found in one.prompt.lower()}
    if choice is None or met is None:
        case = yield from _unjudged(reader, ask, cases)
        systems: tuple[str, ...] = ()
    else:
        yield from choose.opening(choice)
        case = yield from _judged(choice, ask, cases, met)
        systems = met
    if case is None:
        yield Remark("No case fits: change the filters.")
        return
    yield from _case(reader, case, systems, choice)
    if ask.yes("walk", "Walk back"):
        for one in reader.store.select(Sample, case=case.id, **({"system": list(systems)} if systems else {})):
            yield Text(f"Behind {one.system}, seed {one.seed}", as_text(walk(reader.store, one.id)))
    wanted = ask.text("id", "Walk behind any id", "A figure, judgement, sample, run … or how its id begins.").strip()
    if wanted:
        try:
            yield Text(f"Behind {wanted}", as_text(walk(reader.store, wanted)))
        except PalateError as error:
            yield Remark(str(error), warning=True)


def _judged(choice: Choice, ask: Ask, cases: dict[str, Asked], met: tuple[str, str]) -> Listed:
    """The cases where the two met, by what was said of the candidate; returns the one to look at."""
    snapshot, candidate = choice.snapshot, met[0]
    axis = ask.one("axis", "Axis", choice.axes(met))
    order = ask.one("order", "Order", _ORDERS)
    kept = choice.verdicts(axis, met)
    at = snapshot.comparison_of[kept]
    ours = snapshot.systems[0][at] == snapshot.code("system", candidate)
    outcome = np.where(ours, snapshot.outcome[kept], -snapshot.outcome[kept]).astype(int)
    case = snapshot.sample["case"][snapshot.comparison["candidate"][at]]
    counts = np.zeros((len(snapshot.words["case"]), 3), int)
    np.add.at(counts, (case, 1 - outcome), 1)
    n = counts.sum(1)
    net = (counts[:, 0] - counts[:, 2]) / np.maximum(n, 1)
    disputed = np.minimum(counts[:, 0], counts[:, 2]) / np.maximum(n, 1)
    by = {"worst first": net, "best first": -net, "most disputed first": -disputed}[order]
    # Of equals the case with more votes comes first: it is the surer one.
    places = [one for one in np.lexsort((-n, by)) if n[one] and str(snapshot.words["case"][one]) in cases][:LISTED]
    if not places:
        return None
    listed = [cases[str(snapshot.words["case"][one])] for one in places]
    rows = [
        {"prompt": one.prompt, "good": g, "same": s, "bad": b, "net": net[place], "n": g + s + b}
        for one, place, (g, s, b) in zip(listed, places, counts[places].tolist())
    ]
    names = [f"{at}. {_cut(one.prompt)}" for at, one in enumerate(listed, 1)]
    chosen = listed[names.index(ask.one("case", "Case", names))]
    yield Exhibit(
        "cases",
        f"Cases, {order}: {candidate} against {met[1]} on {axis}",
        f"Verdicts of one case each, from {candidate}'s side, pooled; net (G−B)/N. The first {len(places)} of "
        f"{int((n > 0).sum()):,}. "
        "A case has too few votes (n) for an interval: this list says where to look, not what is true.",
        numbers(rows),
        {"net": signed, **dict.fromkeys(("good", "same", "bad", "n"), whole)},
        simulated=choice.simulated,
    )
    return chosen


def _unjudged(reader: Reader, ask: Ask, cases: dict[str, Asked]) -> Listed:
    snapshot = reader.snapshot()
    answered = set(snapshot.words["case"][np.unique(snapshot.sample["case"])].tolist())
    listed = [one for id, one in cases.items() if id in answered][:LISTED]
    yield Remark("No two systems have been compared here, so no case is worse than another.")
    if not listed:
        return None
    names = [f"{at}. {_cut(one.prompt)}" for at, one in enumerate(listed, 1)]
    return listed[names.index(ask.one("case", "Case", names))]


def _case(reader: Reader, case: Asked, systems: tuple[str, ...], choice: Choice | None) -> Content:
    yield Remark(f"“{case.prompt}”")
    which = {"system": list(systems)} if systems else {}
    samples = list(reader.store.select(Sample, case=case.id, **which))
    samples.sort(key=lambda one: (systems.index(one.system) if systems else 0, one.system, one.seed or 0))
    tags = ", ".join(f"{name} {value}" for name, value in case.tags.items())
    yield Clips(
        f"{case.suite}, {case.split}{f'; {tags}' if tags else ''}", tuple(_clip(reader, one) for one in samples[:SHOWN])
    )
    if len(samples) > SHOWN:
        yield Remark(f"{len(samples) - SHOWN} more samples of this case are not shown.")
    scores = list(reader.store.select(Score, sample=[one.id for one in samples]))
    if scores:
        named = {one.id: one for one in samples}
        rows = [
            {
                "system": named[one.sample].system,
                "seed": named[one.sample].seed,
                "scorer": one.scorer,
                "score": one.value,
                "unit": one.unit,
                "failure": one.failure or "",
            }
            for one in scores
        ]
        rows.sort(key=lambda row: (str(row["scorer"]), str(row["system"])))
        yield Exhibit(
            "case-scores",
            "What machines measured",
            "A score of one sample each (n = 1), so without an interval.",
            numbers(rows),
            {"score": short, "seed": lambda x: f"{x:.0f}"},
        )
    if choice is not None:
        yield from _said(choice, case, systems)


def _said(choice: Choice, case: Asked, systems: tuple[str, ...]) -> Content:
    snapshot = choice.snapshot
    at = snapshot.comparison_of
    inside = snapshot.sample["case"][snapshot.comparison["candidate"][at]] == snapshot.code("case", case.id)
    votes = snapshot.votes(choice.verdicts(systems=systems) & inside)
    if len(votes):
        columns = ("annotator", "candidate", "baseline", "axis", "verdict", "study", "judgement")
        table = numbers([dict(zip(columns, row)) for row in zip(*(getattr(votes, name).tolist() for name in columns))])
        wide = table.pivot_table(
            index=["candidate", "baseline", "annotator", "study", "judgement"],
            columns="axis",
            values="verdict",
            aggfunc="first",
        ).reset_index()
        yield Exhibit(
            "case-verdicts",
            "What was said",
            "A judgement a row, from the candidate's side.",
            wide.fillna(""),
            simulated=choice.simulated,
        )


def _clip(reader: Reader, sample: Sample) -> Clip:
    seed = "seed unknown" if sample.seed is None else f"seed {sample.seed}"
    note = f"{sample.id}; checkpoint {sample.checkpoint[:12] if sample.checkpoint else 'unknown'}"
    if sample.media is None:
        return Clip(f"{sample.system}, {seed}", None, sample.failure or f"no video in the record; {note}")
    try:
        return Clip(f"{sample.system}, {seed}", reader.store.media.path(sample.media), note)
    except PalateError as error:
        return Clip(f"{sample.system}, {seed}", None, str(error))


def _cut(prompt: str) -> str:
    return prompt if len(prompt) <= 70 else prompt[:69] + "…"
