"""`palate demo`."""

from pathlib import Path

import click

from palate.cli import settings_options


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"), show_default=True)
@settings_options
def demo(out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Run the whole loop here: ask, compare blind, learn, ask again, report. Minutes on two cores.

    People are simulated, unless the setting `judges=label-studio` has it wait for those who sign up at a browser.
    """
    from contextlib import nullcontext

    from palate.config import load
    from palate.demo.loop import DemoRecipe
    from palate.demo.loop import demo as run
    from palate.demo.people import served

    told = load(DemoRecipe, recipe, overrides)
    with served(out, told.port) if told.judges == "label-studio" else nullcontext():
        run(told, out)
