"""`palate reward bench | audit | alarm`: what a reward's numbers are worth."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palate.cli import json_option, report, settings_options, store_option

if TYPE_CHECKING:
    from palate.records import Estimate

reward_option = click.option(
    "--reward", "path", type=click.Path(path_type=Path), required=True, help="a checkpoint of `palate reward train`"
)


@click.command()
@store_option
@json_option
@click.option("--judges", type=click.Path(path_type=Path), help="GenAI-Bench's votes with judges' replies (JSONL)")
@click.option("--reward", "path", type=click.Path(path_type=Path), help="a checkpoint, on pairs that people judged:")
@click.option("--study", help="the verdicts of this study")
@click.option("--preferences", help="the preferences of this study")
@click.option("--table", type=click.Path(path_type=Path), help="a CSV in VideoAlign's format")
@click.option("--systems", default="", help="only pairs with a video of these systems, such as ones never trained on")
def bench(
    store: str,
    as_json: bool,
    judges: Path | None,
    path: Path | None,
    study: str | None,
    preferences: str | None,
    table: Path | None,
    systems: str,
) -> None:
    """How often a reward, or judges that answer in words, agree with people; baselines beside them."""
    from palate.errors import ConfigError
    from palate.report_text import table as columns
    from palate.store import Store
    from rewards.bench import bench_judges, bench_pairs, unseen

    if (judges is None) == (path is None):
        raise ConfigError("one thing to examine is needed", "give --judges or --reward")
    if judges:
        found = bench_judges(judges)
        parts = ("parsed", "four_way", "three_way", "without_ties", "without_ties_parsed", "first")
        head = ["judge", "replies that parse", "right of 4", "right of 3", "no ties", "no ties, parsed", "says first"]
        cells = [[row.judge, *(percent(getattr(row, part)) for part in parts)] for row in found]
    else:
        from rewards.pairs import one_source
        from rewards.video_reward import VideoReward, score_videos

        assert path is not None
        model = VideoReward.load(path)
        with Store(store) as record:
            pairs = one_source(record, study, preferences, table, model.axes).on(model.axes)
        pairs = unseen(pairs, systems.split(",")) if systems else pairs
        found = bench_pairs(path.name, pairs, score_videos(model, pairs))
        head = ["scorer", "axis", "without ties", "with ties", "invalid"]
        cells = [
            [row.scorer, row.axis, percent(row.without_ties), percent(row.with_ties), str(row.invalid)] for row in found
        ]
    report(as_json, columns(head, cells), {"rows": [_plain(row) for row in found]})


@click.command()
@store_option
@json_option
@reward_option
@click.option("--study", required=True, help="whose pairs and people to examine it on")
@click.option("--answers", "count", default=128, show_default=True, help="how many videos to probe")
@click.option("--groups", type=click.Path(path_type=Path), help="JSON: annotator -> group; default: each alone")
def audit(store: str, as_json: bool, path: Path, study: str, count: int, groups: Path | None) -> None:
    """Probes that should or should not move a reward, its calibration, and with whom it agrees.

    On people's votes where the study has any, else on simulated ones. Every number is stored as a figure that
    `palate trace` walks back to the votes and to the reward's run; --json names them.
    """
    import json

    import numpy as np

    from palate.errors import ConfigError
    from palate.store import Store
    from rewards.audit import by_group, probe, reliability, text
    from rewards.audited import Audited, audit_figures, counted
    from rewards.pairs import from_votes
    from rewards.video_reward import VideoReward, score_videos

    model, logits = VideoReward.load(path), VideoReward.load(path, standardise=False)
    with Store(store, create=False) as record:
        votes = counted(record, study, model.axes)
        simulated = bool(votes.simulated[0])
        pairs = from_votes(record, study, model.axes, simulated=simulated)
        try:
            named = json.loads(groups.read_text()) if groups else {}
        except (OSError, ValueError) as error:
            raise ConfigError(f"{groups} is no JSON ({error})", "write annotator -> group") from error
        members: dict[str, list[str]] = {}
        for voter in sorted(votes.annotator.present()):
            members.setdefault(named.get(voter, voter), []).append(voter)
        sets = {name: from_votes(record, study, model.axes, own, simulated) for name, own in sorted(members.items())}
    used = np.unique(np.concatenate([pairs.first, pairs.second]))
    chosen = np.random.default_rng(0).permutation(used)[:count]
    findings = probe(model, [pairs.videos[row].answer() for row in chosen])
    values = score_videos(logits, pairs)
    lead = values[pairs.first] - values[pairs.second]
    judged = [axis for axis in model.axes if (np.abs(pairs.label(axis)) == 1).sum() >= 10]
    curves = {
        axis: reliability(axis, pairs.label(axis), lead[:, model.axes.index(axis)], list(pairs.prompts))
        for axis in judged
    }
    score_of = {video.file: values[row] for row, video in enumerate(pairs.videos)}
    examined = judged or model.axes
    axis = "overall" if "overall" in examined else examined[0]
    place = model.axes.index(axis)
    agreed = by_group(sets, axis, lambda one: np.array([score_of[video.file][place] for video in one.videos]))
    of = Audited(model.checkpoint, study, model.axes, votes)
    figures = audit_figures(of, findings, curves, {name: (axis, members[name], one) for name, one in agreed.items()})
    with Store(store, create=False) as record:
        record.add(figures)
    facts = {
        "simulated": simulated,
        "findings": [_plain(one) for one in findings],
        "calibration": {axis: _plain(one) for axis, one in curves.items()},
        "groups": {name: one.model_dump(mode="json") for name, one in agreed.items()},
        "figures": [one.id for one in figures],
    }
    told = text(findings, curves, agreed)
    report(as_json, f"SIMULATED votes: no person gave them\n\n{told}" if simulated else told, facts)


@click.command()
@json_option
@click.argument("table", type=click.Path(path_type=Path))
@settings_options
def alarm(as_json: bool, table: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Does gold fall while the proxy rises? TABLE is a CSV of look, prompt, gold, proxy.

    The setting `looks` is how many are planned in all. The last line, or "state" in JSON, says when to stop.
    """
    from palate.config import load
    from palate.report_text import table as columns
    from rewards.alarm import AlarmSettings, HackingAlarm, read_looks

    watch = HackingAlarm(load(AlarmSettings, recipe, overrides))
    for gold, proxy in read_looks(table):
        watch.look(gold, proxy)
    rows = [
        [
            str(one.look),
            _number(one.gold),
            _number(one.proxy),
            f"{one.statistic:.2f}",
            f"{one.threshold:.2f}",
            one.state,
        ]
        for one in watch.history
    ]
    last = watch.history[-1]
    advice = "nothing falls" if last.state == "calm" else f"{last.state}: go back to look {last.stop}"
    if last.lost:
        advice += f"; gold lost {_number(last.lost)}"
    head = ["look", "gold", "proxy", "largest fall, standard errors", "rings above", "state"]
    facts = {"state": last.state, "stop": last.stop, "looks": [_plain(one) for one in watch.history]}
    report(as_json, f"{columns(head, rows)}\n\n{advice}", facts)


def _plain(row: object) -> dict[str, object]:
    """A row for machines; a number that JSON cannot say is left out as null."""
    from math import isfinite

    from palate.records import Estimate

    return {
        key: value.model_dump(mode="json")
        if isinstance(value, Estimate)
        else None
        if isinstance(value, float) and not isfinite(value)
        else value
        for key, value in vars(row).items()
    }


def _number(found: "Estimate") -> str:
    value, low, high = ("–" if one is None else f"{one:.3f}" for one in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def percent(found: "Estimate | None") -> str:
    if found is None:
        return "–"
    number, *interval = ("–" if one is None else f"{100 * one:.1f}" for one in (found.value, found.low, found.high))
    return f"{number}% [{', '.join(interval)}]"
