"""`palate scaling sweep`: the runs that a scaling law is fitted to."""

from pathlib import Path

import click

from palate.cli import json_option, report, settings_options, store_option


@click.command()
@store_option
@json_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder of the states")
@click.option("--processes", default=2, show_default=True, help="runs at a time, each on one core")
@settings_options
def sweep(
    store: str, as_json: bool, out: Path, processes: int, recipe: Path | None, overrides: tuple[str, ...]
) -> None:
    """Train a grid of small generators, fit the loss law to them, and predict a larger one that is trained too.

    Run it again to go on after a stop. The runs are in the store: `palate scaling fit` fits them anew.
    """
    from models.sweep import SweepRecipe
    from models.sweep import sweep as train_all
    from palate.config import load
    from palate.scaling import Asked, fit_recorded, scaling_text
    from palate.store import Store

    settings = load(SweepRecipe, recipe, overrides)
    with Store(store) as record:
        train_all(settings, out, record, processes)
        found = fit_recorded(record, settings.name, Asked(hold_out=settings.beyond))
    report(as_json, scaling_text(found), {name: one.model_dump(mode="json") for name, one in found.items()})
