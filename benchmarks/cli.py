"""`palate bench`: what we ask, and who answers."""

from pathlib import Path

import click

from palate.cli import json_option, report, settings_options, store_option


@click.group()
def bench() -> None:
    """Ask a generator the cases of a suite."""


@bench.command("list")
@click.argument("suite", required=False)
@click.option("--split", default="heldout", show_default=True)
@click.option("--cases", "count", default=10, show_default=True)
def list_(suite: str | None, split: str, count: int) -> None:
    """The suites; or, with a suite's name, some of its prompts."""
    from benchmarks.suite import SUITES, suite_named

    if suite is None:
        for name, found in SUITES.items():
            click.echo(f"{name}: {found.about}")
    else:
        for case in suite_named(suite).cases(split, count, 0):
            click.echo(case.prompt)


@bench.command()
@click.argument("suite")
@store_option
@json_option
@click.option("--system", required=True, help="the name under which the answers are kept")
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), default=None, help="the generator; default: the shipped one"
)
@click.option("--split", default="heldout", show_default=True)
@click.option("--cases", "count", default=256, show_default=True, help="how many cases")
@click.option("--seeds", default=1, show_default=True, help="samples of each case")
@click.option("--seed", default=0, show_default=True, help="which cases")
@click.option(
    "--workers", default=2, show_default=True, help="processes of one thread each; the answers do not depend on it"
)
@settings_options
def run(
    suite: str,
    store: str,
    as_json: bool,
    system: str,
    checkpoint: Path | None,
    split: str,
    count: int,
    seeds: int,
    seed: int,
    workers: int,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Answer the cases of a suite and score the answers. KEY=VALUE overrides the sampler, such as steps=20."""
    from functools import partial

    from benchmarks.runner import Answering, answer
    from benchmarks.suite import suite_named
    from models.generator import Generator, SamplerSettings
    from models.weights import SHIPPED, file_hash
    from palate import shapes
    from palate.config import load
    from palate.store import Store

    sampler = load(SamplerSettings, recipe, overrides)
    path = checkpoint or SHIPPED
    chosen = suite_named(suite)
    with Store(store) as record:
        work = Answering(
            load=partial(Generator.load_for_worker, path),
            system=system,
            checkpoint=file_hash(path),
            sampler=sampler,
            scorer=chosen.scorer,
            media=record.media.folder,
            fps=shapes.FPS,
        )
        samples = answer(record, chosen.cases(split, count, seed), seeds, work, workers, f"{system} answers {suite}")
    report(
        as_json,
        f"{system} has answered {count} {split} cases of {suite}, {seeds} times each",
        {"system": system, "suite": suite, "split": split, "samples": len(samples), "checkpoint": work.checkpoint},
    )
