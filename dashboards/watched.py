"""Runs that were looked at from outside while they learned: what they are paid for against what they are not."""

from collections.abc import Mapping
from typing import Any

from dashboards import charts, queries
from dashboards.exhibit import Ask, Card, Content, Exhibit, Missing, numbers, short, whole
from dashboards.reader import Reader

STOPPED = "stopped by the alarm"  # how the task of a run begins that the alarm has stopped (alignment/runs.py)


def watched(reader: Reader, ask: Ask) -> Content:
    """The newest run with looks, or one that is chosen."""
    found = reader.once("looked", lambda: queries.looked(reader.store), ("run", "curve"))
    if not found:
        yield Missing("No run was watched while it learned", "palate align grpo looks.every=10 looks.prompts=256")
        return
    names = {f"{one.task}, {one.run[4:12]}": one for one in found}
    name = ask.one("watched", "Run that was watched", list(names))
    run = names[name]
    curves = reader.once(("curves", run.run), lambda: queries.curves(reader.store, [run.run]), ("run", "curve"))
    readings: dict[str, Mapping[int, float]] = {
        one.metric: dict(zip(one.steps, one.readings)) for one in curves if one.metric.startswith("look_")
    }
    gold, proxy = readings["look_gold"], readings["look_proxy"]
    looks = _told(run.recipe)
    yield _verdict(name, run.task.startswith(STOPPED), gold, looks)
    rows = [{"step": step, "proxy": proxy.get(step), "gold": gold[step]} for step in sorted(gold)]
    table = numbers(rows, ("step", "proxy", "gold")).assign(run=name)
    yield Exhibit(
        "watched",
        f"Proxy and gold over training: {name}",
        f"At each of {len(table)} looks, the mean over {looks.get('prompts', 'the same')} prompts that the run does "
        "not learn from, by the reward that it is paid (proxy) and by the one that it is not (gold), each in its own "
        "unit. The record keeps means alone: `palate reward alarm` on looks.csv of the run's folder has intervals, "
        "paired over prompts.",
        table.drop(columns="run"),
        {"step": whole, "proxy": short, "gold": short},
        (charts.lines(table, "step", "proxy", "run"), charts.lines(table, "step", "gold", "run")),
    )


def _told(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    looks = recipe.get("looks")
    return looks if isinstance(looks, dict) else {}


def _verdict(name: str, stopped: bool, gold: Mapping[int, float], looks: Mapping[str, Any]) -> Card:
    alarm = looks.get("alarm") or {}
    level = alarm.get("level", 0.05)
    rule = (
        f"The alarm rings where gold falls by more than chance allows in all of {alarm.get('looks', 'its')} planned "
        f"looks together (level {level:.0%})."
    )
    if not level:
        rule = "It was told never to ring (looks.alarm.level=0)."
    last = max(gold)
    if stopped:
        return Card(f"Did the alarm ring in {name}?", f"Yes, at step {last:,}: the run was stopped", rule, "bad")
    quiet = f"No, up to the last look at step {last:,}" if level else "Nobody listened"
    return Card(f"Did the alarm ring in {name}?", quiet, f"{rule} No alarm is no proof.", "open")
