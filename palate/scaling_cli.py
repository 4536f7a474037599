"""`palate scaling`: what finished training runs say about larger ones."""

from pathlib import Path

import click

from palate.cli import Assembled, json_option, report, store_option


@click.group(cls=Assembled, entries="palate.commands.scaling")
def scaling() -> None:
    """Scaling laws."""


@scaling.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@store_option
@click.option("--sweep", default="shapes", show_default=True, help="Without a FILE: this sweep's runs in the store.")
@click.option(
    "--columns",
    default="params=params,tokens=tokens,loss=loss",
    show_default=True,
    help="Which columns hold the loss and two or three of params, tokens and compute.",
)
@click.option("--drop-highest", default=0, show_default=True, help="Leave out this many runs of the highest loss.")
@click.option(
    "--hold-out", type=float, metavar="FACTOR", help="Predict the runs FACTOR times beyond the rest's compute."
)
@click.option("--budgets", metavar="C,C,...", help="Compute budgets at which to look for the best size (isoFLOP).")
@click.option("--near", default=1.1, show_default=True, help="A run belongs to a budget within this factor of it.")
@click.option("--replicates", default=1000, show_default=True, help="Bootstrap fits behind the intervals.")
@click.option("--seed", default=0, show_default=True)
@json_option
def fit(
    file: Path | None,
    store: str,
    sweep: str,
    columns: str,
    drop_highest: int,
    hold_out: float | None,
    budgets: str | None,
    near: float,
    replicates: int,
    seed: int,
    as_json: bool,
) -> None:
    """Fit L = E + A / N^alpha + B / D^beta to a sweep's runs in the store, or to those in a CSV FILE, one a row.

    Units are the file's own. A missing one of parameters N, tokens D and compute C follows from C = 6 N D. What is
    fitted to runs of the store is stored as figures that `palate trace` walks back to them.
    """
    from palate.scaling import Asked, fit_recorded, read_runs, scaling_text, summarise
    from palate.store import Store

    limits = None if budgets is None else tuple(_number(one) for one in budgets.split(","))
    asked = Asked(hold_out, limits, near, drop_highest, replicates, seed)
    if file:
        found = summarise(read_runs(file, _named(columns)), asked)
    else:
        with Store(store, create=False) as record:
            found = fit_recorded(record, sweep, asked)
    facts = {name: one.model_dump(mode="json") for name, one in found.items()}
    report(as_json, scaling_text(found), facts)


def _named(columns: str) -> dict[str, str]:
    pairs = [one.partition("=") for one in columns.split(",")]
    wrong = [key for key, _, name in pairs if not name or key not in ("params", "tokens", "compute", "loss")]
    if wrong:
        raise click.BadParameter(
            f"{wrong[0]!r} is not one of params=, tokens=, compute=, loss=", param_hint="--columns"
        )
    return {key: name for key, _, name in pairs}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number", param_hint="--budgets") from None
