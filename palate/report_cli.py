"""`palate report`: what the votes in a store say."""

import json
from typing import Literal

import click

from palate.cli import json_option, store_option


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
    from palate.gsb import accords, contests, set_aside, slices, standings
    from palate.records import Case
    from palate.report import figures
    from palate.report_text import gsb_text
    from palate.store import Store

    with Store(store, create=False) as record:
        votes = record.votes(study=study, axis=axis)
        sliced = slices(record.select(Case), tag) if tag else None
        pairs = contests(votes, aggregation, candidate, baseline, sliced)
        systems, missing = standings(votes)
        agreement = accords(votes)
        chosen = {"study": study, "by": tag}
        shown = figures(pairs, systems, agreement, {key: value for key, value in chosen.items() if value})
        record.add(shown)
    if as_json:
        click.echo(json.dumps([{"id": one.id, **one.model_dump(mode="json")} for one in shown], ensure_ascii=False))
        return
    aside = set_aside(votes)
    remarks = [
        *missing,
        *(
            [f"{aside} votes are not counted: on gold or repeated comparisons, or on two samples of one system."]
            if aside
            else []
        ),
    ]
    click.echo(gsb_text(pairs, systems, agreement, remarks))
