"""`palate report`: what the votes in a store say."""

import json
from dataclasses import asdict
from typing import Literal, TypeVar

import click

from palate.cli import json_option, store_option

T = TypeVar("T", int, float)


@click.group()
def report() -> None:
    """Numbers with their intervals."""


@report.command()
@store_option
@click.option("--study", help="only the votes of one study")
@click.option("--axis", help="only one axis")
@click.option("--candidate", help="only this system's contests, seen from its side")
@click.option("--baseline", help="only the contests against this system")
@click.option("--by", "tag", metavar="TAG", help="a contest for each value of a tag of the cases")
@click.option("--aggregation", type=click.Choice(["pooled", "majority"]), default="pooled", show_default=True)
@json_option
def gsb(
    store: str,
    study: str | None,
    axis: str | None,
    candidate: str | None,
    baseline: str | None,
    tag: str | None,
    aggregation: Literal["pooled", "majority"],
    as_json: bool,
) -> None:
    """Good / same / bad of every pair of systems, a rating of each system, and how far people agree.

    Every number is stored as a figure that `palate trace` walks back to its votes; --json names them.
    A tag with several values, as "people; animals", puts its case in a slice for each.
    """
    from palate.accords import Accords
    from palate.gsb import Contests, slices
    from palate.records import Case
    from palate.report import figures
    from palate.report_text import gsb_text
    from palate.standings import Standings
    from palate.store import Store

    with Store(store, create=False) as record:
        sliced = slices(record.select(Case), tag) if tag else None
        contests, standings, accords = Contests(aggregation, candidate, baseline, sliced), Standings(), Accords()
        for part in record.vote_parts(study, axis):
            for counted in (contests, standings, accords):
                counted.add(part)
        pairs, (systems, missing), agreement = contests.found(), standings.found(), accords.found()
        chosen = {"study": study, "by": tag}
        shown = figures(pairs, systems, agreement, {key: value for key, value in chosen.items() if value})
        record.add(shown)
    if as_json:
        click.echo(json.dumps([{"id": one.id, **one.model_dump(mode="json")} for one in shown], ensure_ascii=False))
        return
    aside = contests.aside
    remarks = [
        *missing,
        *(
            [f"{aside} votes are not counted: on gold or repeated comparisons, or on two samples of one system."]
            if aside
            else []
        ),
    ]
    click.echo(gsb_text(pairs, systems, agreement, remarks))


@report.command()
@store_option
@click.option("--study", help="only the votes of one study")
@click.option("--axis", help="only one axis")
@click.option("--ties", type=click.Choice(["davidson", "rao_kupper"]), default="davidson", show_default=True)
@click.option("--side", is_flag=True, help="estimate the advantage of the left side, and rate systems without it")
@click.option("--raters", is_flag=True, help="the same, of each annotator apart")
@click.option(
    "--style",
    "styles",
    multiple=True,
    metavar="NAME",
    help="rate systems without what a difference in seconds, fps, pixels or a scorer's scores adds; several times",
)
@json_option
def ratings(
    store: str,
    study: str | None,
    axis: str | None,
    ties: Literal["davidson", "rao_kupper"],
    side: bool,
    raters: bool,
    styles: tuple[str, ...],
    as_json: bool,
) -> None:
    """Bradley-Terry ratings of all systems, with what side, annotators and style add taken out where asked.

    Every number is stored as a figure that `palate trace` walks back to its votes; --json names them.
    """
    from palate.report import figures
    from palate.report_text import gsb_text
    from palate.standings import Standings
    from palate.store import Store
    from palate.style import style

    with Store(store, create=False) as record:
        parts = record.vote_parts(study, axis) if styles else ()
        judged = {comparison for part in parts for comparison in part.comparison.present()}
        standings = Standings(ties, side, raters, style(record, judged, styles))
        for part in record.vote_parts(study, axis):
            standings.add(part)
        systems, missing = standings.found()
        named = ", ".join(styles)
        chosen = {"study": study, "ties": ties, "side": side, "raters": raters, "style": named}
        shown = figures([], systems, [], {key: value for key, value in chosen.items() if value})
        record.add(shown)
    if as_json:
        click.echo(json.dumps([{"id": one.id, **one.model_dump(mode="json")} for one in shown], ensure_ascii=False))
        return
    click.echo(gsb_text([], systems, [], missing))


@report.command()
@store_option
@click.option("--study", help="only the votes of one study")
@click.option("--axis", help="only one axis")
@click.option("--scorer", "scorers", multiple=True, help="only this scorer; may be given several times")
@json_option
def metrics(store: str, study: str | None, axis: str | None, scorers: tuple[str, ...], as_json: bool) -> None:
    """How well automatic metrics agree with people: accuracy with and without ties, Kendall, Spearman.

    Every number is stored as a figure that `palate trace` walks back to its votes; --json names them.
    """
    from palate.metrics import matches, metric_figures, metric_text
    from palate.store import Store

    with Store(store, create=False) as record:
        found = matches(record, record.votes(study=study, axis=axis), scorers)
        shown = metric_figures(found, {"study": study} if study else {})
        record.add(shown)
    if as_json:
        click.echo(json.dumps([{"id": one.id, **one.model_dump(mode="json")} for one in shown], ensure_ascii=False))
        return
    click.echo(metric_text(found))


@report.command()
@click.option("--detect", type=float, required=True, metavar="NET", help="The net (G-B)/N worth finding, such as 0.05.")
@click.option("--power", default=0.8, show_default=True, help="The chance of finding it.")
@click.option("--assume", metavar="P,A,R", help="Variances between prompts, between annotators, and the rest.")
@click.option("--annotators", default="3,5,10,20,50", show_default=True, help="How many there could be.")
@click.option("--overlap", default="1,2,3,5", show_default=True, help="How many could judge a prompt.")
@store_option
@click.option("--study", help="measure on the votes of one study")
@click.option("--axis", help="measure on one axis")
@json_option
def plan(
    detect: float,
    power: float,
    assume: str | None,
    annotators: str,
    overlap: str,
    store: str,
    study: str | None,
    axis: str | None,
    as_json: bool,
) -> None:
    """How many prompts and votes it takes to tell a net from zero.

    How far verdicts vary between prompts and between annotators is measured on the votes in the store, or assumed.
    """
    from palate.plan import design, measured, plan_text
    from palate.stats.plan import Components
    from palate.store import Store

    people, votes = _list(annotators, int, "--annotators"), _list(overlap, int, "--overlap")
    if assume is not None:
        variances = _list(assume, float, "--assume")
        if len(variances) != 3:
            raise click.BadParameter("three variances are needed", param_hint="--assume")
        parts, source = Components(*variances), "assumed"
    else:
        with Store(store, create=False) as record:
            parts, source = measured(record.vote_parts(study, axis))
    designs = design(parts, detect, power, people, votes)
    if as_json:
        click.echo(json.dumps({"components": asdict(parts), "source": source, "designs": [asdict(d) for d in designs]}))
        return
    click.echo(plan_text(parts, source, detect, power, designs))


def _list(text: str, kind: type[T], option: str) -> list[T]:
    try:
        return [kind(one) for one in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers", param_hint=option) from None
