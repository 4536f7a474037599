"""`palate votes`: what people said elsewhere, in our records."""

import json
from collections.abc import Iterable
from pathlib import Path

import click

from palate.cli import json_option, store_option
from palate.errors import ConfigError


@click.group()
def votes() -> None:
    """Votes that were given elsewhere."""


@votes.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "layout", type=click.Choice(["fetv", "genai-bench", "pairwise-csv"]), required=True)
@click.option("--study", help="what to call them; by default the format, or the table's name")
@click.option("--columns", multiple=True, metavar="KEY=COLUMN,...", help="pairwise-csv: what each column holds")
@click.option("--verdicts", multiple=True, metavar="WORD=VERDICT,...", help="pairwise-csv: the table's words for ours")
@store_option
@json_option
def import_votes(
    file: Path,
    layout: str,
    study: str | None,
    columns: tuple[str, ...],
    verdicts: tuple[str, ...],
    store: str,
    as_json: bool,
) -> None:
    """Store the votes in FILE, all of them or none. Importing a file twice changes nothing.

    \b
    Columns of a pairwise-csv, as KEY=COLUMN:
      prompt                    what was asked
      left, right               the two systems, where the file says how they stood
      a, b                      the two systems, where it does not
      left.media, right.media   their videos, as paths from the table's folder (or a.media, b.media)
      annotator                 who voted; without it the annotators are unknown
      verdict, axis.NAME        the answer overall, or on an axis
      tag.NAME                  a tag of the case
    The first system is the candidate: verdicts are from its side.
    """
    from annotation.votes import fetv, genai_bench, pairwise_csv
    from palate.store import Store

    if layout != "pairwise-csv" and (columns or verdicts):
        raise ConfigError(f"{layout} has fixed columns and verdicts", "leave out --columns and --verdicts")
    with Store(store) as record:
        if layout == "fetv":
            found = fetv.read(file, study or layout)
        elif layout == "genai-bench":
            found = genai_bench.read(file, study or layout)
        else:
            words = _pairs(verdicts) or {verdict: verdict for verdict in ("good", "same", "bad", "both_bad")}
            found = pairwise_csv.read(file, study or file.stem, _pairs(columns), words, record.media.add_file)
        added = record.add({one.id: one for one in found}.values())
    given = sum(one.kind == "judgement" for one in found)
    facts = json.dumps({"judgements": given, "added": added})
    click.echo(facts if as_json else f"{given} votes read, {added} new records stored")


def _pairs(options: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE pairs, separated by commas or given one by one."""
    pairs: dict[str, str] = {}
    for part in (part for option in options for part in option.split(",")):
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"{part!r} is not KEY=VALUE", "separate pairs by commas, without spaces")
        pairs[key] = value
    return pairs
