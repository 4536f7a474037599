"""`palate bench`: what we ask, who answers, and how two answer side by side."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from benchmarks.any2caption_cli import any2caption
from benchmarks.captions_cli import captions
from palate.cli import json_option, report, settings_options, store_option

if TYPE_CHECKING:
    from palate.report import Split

split_option = click.option("--split", type=click.Choice(["train", "heldout"]), default="heldout", show_default=True)
suite_option = click.option("--suite", required=True, help="a suite of ours, or an imported one")
count_option = click.option("--cases", "count", type=click.IntRange(min=1), help="how many; by default the suite's own")
seed_option = click.option("--seed", default=0, show_default=True, help="which cases")
assets_option = click.option(
    "--assets", type=click.Path(path_type=Path), help="the folder of the files that references stand for"
)


@click.group()
def bench() -> None:
    """Ask a generator the cases of a suite."""


bench.add_command(any2caption)
bench.add_command(captions)


@bench.command("list")
@click.argument("suite", required=False)
@split_option
@click.option("--cases", "count", type=click.IntRange(min=1), default=10, show_default=True)
@seed_option
@click.option("--store", metavar="URL", envvar="PALATE_STORE", help="also what was imported there")
def list_(suite: str | None, split: str, count: int, seed: int, store: str | None) -> None:
    """The suites; or, with a suite's name, some of its prompts."""
    from contextlib import ExitStack

    from benchmarks.suite import SUITES, imported, stored_or_named, suite_named
    from palate.store import Store

    with ExitStack() as stack:
        record = stack.enter_context(Store(store, create=False)) if store else None
        if suite is None:
            for name, found in {**SUITES, **(imported(record) if record else {})}.items():
                click.echo(f"{name}: {found.about}")
        else:
            chosen = stored_or_named(record, suite) if record else suite_named(suite)
            for case in chosen.cases(split, count, seed):
                click.echo(case.prompt)


@bench.command()
@click.argument("suite")
@store_option
@json_option
@click.option(
    "--system",
    "told",
    metavar="NAME[=LEARNED]",
    multiple=True,
    required=True,
    help="under which name answers are kept, and what `palate align` wrote, if it is asked with that; give several",
)
@click.option("--generator", default="shapes", show_default=True, help="or a family of `palate align generators`")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="the generator's, a folder in diffusers' format or a checkpoint"
)
@split_option
@count_option
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="samples of each case")
@seed_option
@assets_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="processes of one thread each; the answers do not depend on it  [default: 2, and 1 of a pipeline]",
)
@click.option("--ray", "address", metavar="ADDRESS", help="spread them over a Ray cluster: local, auto or host:port")
@click.option("--retry-failed", is_flag=True, help="ask again for what failed before")
@settings_options
def run(
    suite: str,
    store: str,
    as_json: bool,
    told: tuple[str, ...],
    generator: str,
    weights: Path | None,
    split: str,
    count: int | None,
    seeds: int,
    seed: int,
    assets: Path | None,
    workers: int | None,
    address: str | None,
    retry_failed: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Answer the cases of a suite and score the answers. KEY=VALUE overrides the sampler, such as steps=20.

    A case that the generator fails on is kept with the reason; it is not asked again unless told to.
    """
    from collections import Counter

    from benchmarks.assets import attach
    from benchmarks.cluster import cluster
    from benchmarks.runner import answer, in_process, processes
    from benchmarks.suite import stored_or_named
    from benchmarks.systems import SHAPES, systems
    from palate.store import Store

    many = workers or (2 if generator == SHAPES else 1)
    spread = cluster(address, many) if address else processes(many) if many > 1 else in_process
    with Store(store) as record:
        chosen = stored_or_named(record, suite)
        works = systems(told, generator, weights, recipe, overrides, chosen.scorer, record.media.folder)
        cases = chosen.attach(chosen.cases(split, count, seed), record.media)
        if assets:
            cases = attach(cases, assets, record.media)
        label = f"{', '.join(work.system for work in works)}: {suite}"
        answers = answer(record, cases, seeds, works, spread, label, retry_failed)
    facts: list[dict[str, object]] = []
    for work, samples in zip(works, answers, strict=True):
        reasons = Counter(sample.failure for sample in samples if sample.failure).most_common()
        failed = sum(count for _, count in reasons)
        most = f"; {failed} of {len(samples)} failed, most often so: {reasons[0][0]}" if reasons else ""
        if not as_json:
            click.echo(
                f"{work.system} has answered {len(cases)} {split} cases of {suite}, samples of each: {seeds}{most}"
            )
        facts.append({"system": work.system, "samples": len(samples), "failed": failed, "checkpoint": work.checkpoint})
    if as_json:
        click.echo(json.dumps({"suite": suite, "split": split, "systems": facts}))


@bench.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--meaning", is_flag=True, help="also compare what the English prompts mean, by embeddings")
@json_option
def validate(path: Path | None, meaning: bool, as_json: bool) -> None:
    """Check a suite in OmniVideo's form (a folder or one JSONL file; by default our own), and say how it is spread.

    Every line must fit, its handles must match its references in both languages, it must be askable under the
    published limits, and no two prompts may read alike (with --meaning: or say the same in other words).
    """
    from benchmarks.omnivideo import DATA
    from benchmarks.validate import examine, spread
    from palate.errors import ImportRefusedError

    found, faults = examine(path or DATA, meaning=meaning)
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        raise ImportRefusedError(f"{path or DATA} has {len(faults)} faults", "mend the lines above")
    counts = spread([item for _, item in found])
    lines = [f"{name}: {', '.join(f'{value} {count}' for value, count in of.items())}" for name, of in counts.items()]
    report(as_json, "\n".join([f"{len(found)} cases, no faults", *lines]), {"cases": len(found), **counts})


@bench.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "layout",
    type=click.Choice(["vbench", "geneval", "lines", "csv", "jsonl", "omnivideo", "omnivideo-zh"]),
    required=True,
)
@click.option("--suite", required=True, help="what to call it")
@click.option("--columns", multiple=True, metavar="KEY=COLUMN", help="csv and jsonl: prompt, tag.NAME")
@store_option
@json_option
def import_(
    file: Path,
    layout: Literal["vbench", "geneval", "lines", "csv", "jsonl", "omnivideo", "omnivideo-zh"],
    suite: str,
    columns: tuple[str, ...],
    store: str,
    as_json: bool,
) -> None:
    """Store the prompts in FILE as a suite, all of them or none. Importing a file twice changes nothing.

    \b
    vbench      VBench_full_info.json; its dimensions become a tag
    geneval     test_metadata.jsonl; its objects become checks
    lines       one prompt a line, as MovieGenVideoBench.txt
    csv, jsonl  any table; VideoGen-Eval, TA-Hard and VBench as VideoAlign has them: a column `prompt`, or with
                --columns prompt=prompt_zh the Chinese one
    omnivideo   your own suite in OmniVideo's form, in English (omnivideo-zh: in Chinese)
    """
    from benchmarks.prompts import read
    from benchmarks.suite import SUITES
    from palate.errors import ConfigError
    from palate.store import Store

    if suite in SUITES:
        raise ConfigError(f"{suite} is a suite of ours", "give yours another name")
    cases = read(file, layout, suite, dict(_pair(one) for one in columns))
    with Store(store) as record:
        added = record.add(cases)
    report(
        as_json,
        f"{len(cases)} cases of {suite}, {added} of them new",
        {"suite": suite, "cases": len(cases), "new": added},
    )


@bench.command()
@click.argument("suite")
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="where the files are, or are to be")
@click.option("--make", metavar="MODULE:FUNCTION", help="writes what a description says to a path, as png or mp4")
@store_option
@json_option
def assets(suite: str, folder: Path, make: str | None, store: str, as_json: bool) -> None:
    """List the files that a suite's references need and that are not there; or have a model make them.

    The function is called as function(description, path), such as one around a text-to-image pipeline.
    """
    from benchmarks.assets import fill, function_named, listed
    from benchmarks.suite import stored_or_named
    from palate.store import Store

    with Store(store) as record:
        cases = stored_or_named(record, suite).cases("heldout", None, 0)
    made = fill(cases, folder, function_named(make)) if make else 0
    lacking = [asset for asset in listed(cases, folder) if not asset.path.is_file()]
    shown = [] if make else [f"{asset.path}\t{asset.about}" for asset in lacking]
    text = "\n".join([*shown, f"{made} files made, {len(lacking)} are not there"])
    report(as_json, text, {"made": made, "missing": {str(asset.path): asset.about for asset in lacking}})


@bench.command()
@click.argument("candidate")
@click.argument("baseline")
@suite_option
@split_option
@click.option("--by", "tag", metavar="TAG", help="also a row for each value of a tag of the cases")
@click.option("--format", "shape", type=click.Choice(["text", "markdown", "html"]), default="text", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="write it here and not to the screen")
@store_option
@json_option
def compare(
    candidate: str,
    baseline: str,
    suite: str,
    split: "Split",
    tag: str | None,
    shape: str,
    out: Path | None,
    store: str,
    as_json: bool,
) -> None:
    """The scores of two systems on the same cases, with paired intervals, and what failed.

    Every number is stored as a figure that `palate trace` walks back to its scores; --json names them.
    """
    from benchmarks.report import FORMATS
    from benchmarks.report import compare as side_by_side
    from palate.files import whole_file
    from palate.store import Store

    with Store(store, create=False) as record:
        found = side_by_side(record, candidate, baseline, suite, split, tag)
        record.add(found.figures)
    text = FORMATS["json" if as_json else shape](found)
    if out:
        with whole_file(out) as file:
            file.write(f"{text}\n".encode())
        click.echo(f"{found.title}: {out}", err=True)
    else:
        click.echo(text)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise click.BadParameter(f"{text!r} is not KEY=COLUMN", param_hint="--columns")
    return key, value
