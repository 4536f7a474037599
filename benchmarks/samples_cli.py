"""`palate samples`: videos that were made elsewhere, such as by a service or a colleague's model."""

from pathlib import Path

import click

from benchmarks.cli import assets_option, count_option, seed_option, split_option, suite_option
from palate.cli import json_option, report, store_option


@click.group()
def samples() -> None:
    """Videos made elsewhere."""


@samples.command()
@suite_option
@split_option
@count_option
@seed_option
@assets_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the CSV file to write")
@store_option
@json_option
def manifest(
    suite: str, split: str, count: int | None, seed: int, assets: Path | None, out: Path, store: str, as_json: bool
) -> None:
    """Store the cases of a suite and write a manifest of them, in which to name the file that answers each."""
    from benchmarks.assets import attach
    from benchmarks.samples import template
    from benchmarks.suite import stored_or_named
    from palate.files import whole_file
    from palate.store import Store

    with Store(store) as record:
        chosen = stored_or_named(record, suite)
        cases = chosen.attach(chosen.cases(split, count, seed), record.media)
        if assets:
            cases = attach(cases, assets, record.media)
        record.add(cases)
    with whole_file(out) as file:
        file.write(template(cases).encode())
    report(as_json, f"{len(cases)} cases in {out}", {"cases": len(cases), "out": str(out)})


@samples.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--manifest", "list_", type=click.Path(path_type=Path), required=True, help="which file answers what")
@click.option("--system", required=True, help="who made them")
@store_option
@json_option
def import_(folder: Path, list_: Path, system: str, store: str, as_json: bool) -> None:
    """Store the videos that a manifest names, and their scores where a program can check them: all of them or none."""
    from benchmarks.samples import read
    from benchmarks.suite import SUITES
    from palate.errors import ImportRefusedError
    from palate.records import Case, Record
    from palate.store import Store

    if not folder.is_dir():
        raise ImportRefusedError(f"{folder} is no folder", "give the folder of the videos")
    with Store(store, create=False) as record:
        known = {case.id: case for case in record.select(Case)}
        brought = read(list_, folder, system, known.get, record.media.add_file)
        rows: list[Record] = []
        for sample in brought.samples:
            case = known[sample.case]
            rows.append(sample)
            if sample.media and case.suite in SUITES:
                rows += SUITES[case.suite].scorer(case, sample, record.media.video(sample.media))
        added = record.add(rows)
    text = f"{len(brought.samples)} samples of {system}, {added} new records; {brought.left_out} rows say nothing yet"
    if brought.strangers:
        text += f"; {len(brought.strangers)} videos are in no row, such as {brought.strangers[0]}"
    facts = {
        "samples": len(brought.samples),
        "new": added,
        "left_out": brought.left_out,
        "unnamed": [str(one) for one in brought.strangers],
    }
    report(as_json, text, facts)
