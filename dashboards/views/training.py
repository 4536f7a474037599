"""Runs: what they were told, what they read and made, how two differ, and what their checkpoints draw."""

import json
from collections.abc import Iterator
from typing import Any

from dashboards import charts, queries
from dashboards.exhibit import Ask, Clip, Clips, Content, Exhibit, Missing, Remark, numbers, short, whole
from dashboards.reader import Reader
from dashboards.runs import row, runs
from palate.errors import PalateError
from palate.records import Sample

TITLE = "Training"
_EACH = 2  # samples shown of a checkpoint
_STEPS = 6  # at which a prompt is shown, evenly taken of those the run drew it at: the first and the last among them


def content(reader: Reader, ask: Ask) -> Content:
    found = runs(reader)
    if not found:
        yield Missing("No run has been recorded", "palate align dpo --study NAME, or palate model pretrain --store URL")
        return
    rows = [row(one, _reads(one.parents)) for one in found]
    yield Exhibit(
        "runs",
        "Runs",
        f"All {len(rows)} runs of the record, the newest first; a run is recorded when it ends. No sample, so no "
        "interval.",
        numbers(rows),
        {**dict.fromkeys(("checkpoints read", "records read"), whole), "seed": str},
    )
    drawing = reader.once("drawing", lambda: queries.drawing(reader.store), ("run", "glimpse"))
    # The newest that there is most to see of is what is shown unasked.
    names = {f"{one.task}, {one.id[4:12]}": one for one in sorted(found, key=lambda one: one.id not in drawing)}
    first = ask.one("run", "Run", list(names))
    others = [name for name in names if name != first]
    other = ask.one("against", "Compare with", others) if others else None
    yield from _curves(reader, ask, {name: names[name].id for name in (first, other) if name})
    if other:
        yield _difference(names, first, other)
    else:
        yield _recipe(names[first])
    yield from _while_learning(reader, ask, names[first])
    yield from _drawn(reader, ask, names[first])


def _reads(parents: list[str]) -> dict[str, int]:
    checkpoints = sum("-" not in parent for parent in parents)
    return {"checkpoints read": checkpoints, "records read": len(parents) - checkpoints}


def _curves(reader: Reader, ask: Ask, shown: dict[str, str]) -> Content:
    """What these runs, name -> id, reported while they learned."""
    key = ("curves", *shown.values())
    found = reader.once(key, lambda: queries.curves(reader.store, list(shown.values())), ("run", "curve"))
    if not found:
        yield Remark("Neither kept a curve: runs that ended before curves were recorded, or of a kind that has none.")
        return
    metrics = sorted({one.metric for one in found}, key=lambda name: (name != "loss", "reward" not in name, name))
    metric = ask.one("metric", "Metric", metrics)
    named = {id: name for name, id in shown.items()}
    rows = [
        {"run": named[one.run], "step": step, metric: reading}
        for one in found
        if one.metric == metric
        for step, reading in zip(one.steps, one.readings)
    ]
    table = numbers(rows)
    yield Exhibit(
        "curves",
        f"{metric} over steps",
        "As reported by the run, of one batch each (or a window of them), so without an interval; a line is a run. At "
        "most 1,000 steps of a run are in the record, evenly spread. Two runs' losses are comparable only where their "
        "objectives are the same.",
        table,
        {"step": whole, metric: short},
        (charts.lines(table, "step", metric, "run"),),
    )


def _difference(names: dict[str, Any], first: str, other: str) -> Exhibit:
    mine, theirs = (dict(_flat(names[name].recipe)) for name in (first, other))
    rows = [
        {"setting": key, first: mine.get(key, "not a setting"), other: theirs.get(key, "not a setting")}
        for key in sorted(mine.keys() | theirs.keys())
        if mine.get(key) != theirs.get(key)
    ]
    same = sum(mine[key] == theirs[key] for key in mine.keys() & theirs.keys())
    code = {name: names[name].code for name in (first, other)}
    rows.append({"setting": "(code)", **code})
    return Exhibit(
        "recipes",
        "How the two recipes differ",
        f"Resolved settings as stored with the runs; {same} are the same.",
        numbers(rows),
    )


def _recipe(run: Any) -> Exhibit:
    rows = [{"setting": key, "value": value} for key, value in _flat(run.recipe)]
    return Exhibit("recipe", "Its recipe", "Resolved settings as stored with the run.", numbers(rows))


def _flat(recipe: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(recipe, dict):
        for key, value in recipe.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, json.dumps(recipe, ensure_ascii=False)


def _while_learning(reader: Reader, ask: Ask, run: Any) -> Content:
    """One prompt at the steps at which the run drew it."""
    found = reader.once(("glimpses", run.id), lambda: queries.glimpses(reader.store, run.id), ("run", "glimpse"))
    if not found:
        yield Missing(
            "This run drew nothing while it learned: it ended before that was kept, or was told show_every=0",
            "palate align dpo --study NAME show_every=50",
        )
        return
    listed = {f"{place + 1}. {prompt[:70]}": place for place, _, prompt, _ in reversed(found)}
    names = sorted(listed, key=lambda name: listed[name])
    place = listed[ask.one("glimpse", "Prompt while learning", names)]
    mine = [one for one in found if one.place == place]
    few = [
        mine[round(at * (len(mine) - 1) / max(min(len(mine), _STEPS) - 1, 1))] for at in range(min(len(mine), _STEPS))
    ]
    prompts = {one.prompt for one in mine}
    kept = "the same prompt from the same noise, so what changes is the model"
    if len(prompts) > 1:
        kept = "the run did not keep to one prompt, so what changes is not the model alone"
    yield Remark(
        f"What the run drew while it learned, in order of steps: {kept}. {len(few)} of {len(mine)} steps; a clip each "
        "(n = 1), to be looked at and not to be counted."
    )
    said = f"“{few[0].prompt}”" if len(prompts) == 1 else "Its prompts are under the clips"
    yield Clips(said, tuple(_glimpse(reader, one, len(prompts) > 1) for one in few))


def _glimpse(reader: Reader, one: Any, told: bool) -> Clip:
    label = f"step {one.step:,}"
    try:
        return Clip(label, reader.store.media.path(one.media), one.prompt if told else "")
    except PalateError as error:
        return Clip(label, None, str(error))


def _drawn(reader: Reader, ask: Ask, run: Any) -> Content:
    """A case that one of the run's checkpoints answered, beside what the checkpoint it started from answered."""
    parents = [parent for parent in run.parents if "-" not in parent]
    made = list(run.outputs)
    mine = {one.case: one for one in reader.store.select(Sample, checkpoint=made) if one.media}
    if not mine:
        yield Missing(
            "No sample of this run's checkpoint is in the record",
            "palate bench run shapes --system NAME=FILE",
        )
        return
    cases = reader.cases()
    listed = {f"{at}. {cases[id].prompt[:70]}": id for at, id in enumerate(sorted(mine)[:50], 1)}
    case = listed[ask.one("drawn", "Case drawn", list(listed))]
    found = [one for one in reader.store.select(Sample, case=case, checkpoint=[*parents, *made]) if one.media]
    checkpoints = [*parents, *made]
    found.sort(key=lambda one: (checkpoints.index(one.checkpoint or ""), one.seed or 0))
    few = [one for made_by in checkpoints for one in [one for one in found if one.checkpoint == made_by][:_EACH]]
    yield Clips(
        f"“{cases[case].prompt}” before and after",
        tuple(
            _clip(reader, one, "made by the run" if one.checkpoint in made else "what it started from")
            for one in few[:8]
        ),
    )


def _clip(reader: Reader, sample: Sample, what: str) -> Clip:
    label = f"{sample.system}: {what}, seed {sample.seed}"
    try:
        return Clip(label, reader.store.media.path(sample.media or ""), f"checkpoint {(sample.checkpoint or '')[:12]}")
    except PalateError as error:
        return Clip(label, None, str(error))
