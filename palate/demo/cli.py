"""`palate demo`."""

from pathlib import Path

import click

from palate.cli import settings_options


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"), show_default=True)
@settings_options
def demo(out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Run the whole loop here: ask, compare blind, learn, ask again, report. Simulated people; minutes on two cores."""
    from palate.config import load
    from palate.demo.loop import DemoRecipe
    from palate.demo.loop import demo as run

    run(load(DemoRecipe, recipe, overrides), out)
