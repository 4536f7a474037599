"""The scaling laws of training runs, from the record or from a table, ready to be shown."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from palate.errors import DataError, ImportRefusedError
from palate.records import Estimate, Scalar
from palate.report_text import table
from palate.stats import scaling
from palate.stats.scaling import Runs
from palate.store import Store
from palate.trained import Trained, recorded, run_figure

_SYMBOLS = {"loss": "L", "params": "N", "tokens": "D", "compute": "C"}


def read_runs(file: Path, columns: Mapping[str, str]) -> Runs:
    """Runs of a CSV file with a header.

    Args:
        columns: "loss" and two or three of "params", "tokens" and "compute" -> the name of the file's column.

    Raises:
        ImportRefusedError: the file cannot be read, lacks a column, or has a cell that is not a number.
        DataError: too few columns, or a number that is not positive.
    """
    if "loss" not in columns:
        raise DataError("no column for the loss", "name one with loss=")
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImportRefusedError(f"{file} cannot be read as CSV ({error})", "give a CSV file with a header") from error
    if not rows:
        raise ImportRefusedError(f"{file} has no rows", "give a CSV file with a header and a run in each row")
    given: dict[str, list[float]] = {}
    for key, name in columns.items():
        if name not in rows[0]:
            raise ImportRefusedError(f"{file} has no column {name!r}", f"it has {', '.join(map(repr, rows[0]))}")
        given[_SYMBOLS[key]] = [_number(file, number, name, row[name]) for number, row in enumerate(rows, 2)]
    return scaling.runs(**given)


@dataclass(frozen=True)
class Asked:
    """What is asked of a table of runs.

    Attributes:
        hold_out: predict the runs of at least `hold_out` times the compute of all the others.
        budgets: compute budgets for the isoFLOP approach.
        near: a run belongs to a budget when its compute is within this factor of it.
        drop_highest: leave out this many runs of the highest loss.
        replicates: bootstrap fits behind the intervals.
    """

    hold_out: float | None = None
    budgets: tuple[float, ...] | None = None
    near: float = 1.1
    drop_highest: int = 0
    replicates: int = 1000
    seed: int = 0

    def selection(self, sweep: str) -> dict[str, Scalar]:
        """As a figure names it: what was not asked for is left out."""
        budgets = {"budgets": ",".join(map(str, self.budgets)), "near": self.near} if self.budgets else {}
        optional = {"hold_out": self.hold_out, "drop_highest": self.drop_highest}
        given = {key: value for key, value in optional.items() if value}
        return {"sweep": sweep, **given, **budgets, "replicates": self.replicates, "seed": self.seed}


def summarise(data: Runs, asked: Asked) -> dict[str, Estimate]:
    """Coefficients in both forms, how compute is best divided, and what was held out, each with its interval.

    Raises DataError where a fit has too little to go on.
    """
    data = data.without_highest(asked.drop_highest)
    fitted = scaling.fit(data, asked.replicates, asked.seed)
    found = {name: fitted.estimate(lambda law, name=name: getattr(law, name)) for name in ("A", "B", "E")}
    found |= {name: fitted.estimate(lambda law, name=name: getattr(law, name)) for name in ("alpha", "beta")}
    found |= {"N_c": fitted.estimate(lambda law: law.scales[0]), "D_c": fitted.estimate(lambda law: law.scales[1])}
    found["exponent of N_opt ~ C^a, from the law"] = fitted.estimate(lambda law: law.exponent)
    if asked.budgets is not None:
        _, power = scaling.iso_flop(data, asked.budgets, asked.near)
        found["exponent of N_opt ~ C^a, from isoFLOP"] = power.powers[0]
    if asked.hold_out is not None:
        beyond = scaling.extrapolate(data, asked.hold_out, asked.replicates, asked.seed)
        found["mean relative error on held-out runs"] = beyond.error
        for number, (predicted, seen) in enumerate(zip(beyond.predicted, beyond.held.L), 1):
            found[f"held-out run {number}, loss seen {seen:.5g}, predicted"] = predicted
    return found


def runs_of(trained: Mapping[str, tuple[Trained, Estimate]]) -> Runs:
    """Recorded runs as a table. Raises DataError for too few."""
    losses = [loss.value for _, loss in trained.values() if loss.value is not None]
    params, tokens, flops = zip(*((one.params, one.tokens, one.flops) for one, _ in trained.values()))
    return scaling.runs(losses, N=params, D=tokens, C=flops)


def fit_recorded(store: Store, sweep: str, asked: Asked) -> dict[str, Estimate]:
    """`summarise` of a sweep's runs in the record, where each number is stored as a figure of them.

    Raises:
        DataError: there are no such runs, or too few.
    """
    trained = recorded(store, sweep)
    if not trained:
        raise DataError(f"no runs of a sweep {sweep!r} in the store", "run `palate scaling sweep`, or give a CSV file")
    found = summarise(runs_of(trained), asked)
    store.add(run_figure(f"scaling.{name}", e, asked.selection(sweep), list(trained)) for name, e in found.items())
    return found


def scaling_text(found: Mapping[str, Estimate]) -> str:
    """A table of what `summarise` found, and the methods behind it."""

    def number(x: float | None) -> str:
        return "–" if x is None else f"{x:.5g}"

    rows = [[name, number(one.value), number(one.low), number(one.high), str(one.n)] for name, one in found.items()]
    methods = dict.fromkeys(f"{one.method}{f' ({one.note})' if one.note else ''}" for one in found.values())
    laws = (
        "L = E + A / N^alpha + B / D^beta = E + (N_c / N)^alpha + (D_c / D)^beta; division of compute under C = 6 N D."
    )
    foot = (
        f"{laws}\nIntervals are 95%: {'; '.join(methods)}. A prediction's interval is the law's, without a run's noise."
    )
    return f"{table(['', 'value', 'low', 'high', 'runs'], rows)}\n\n{foot}"


def _number(file: Path, line: int, column: str, cell: str | None) -> float:
    try:
        return float(cell or "")
    except ValueError:
        raise ImportRefusedError(f"{file}, line {line}: {column} is {cell!r}", "give a number in every row") from None
