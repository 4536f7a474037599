"""The scaling laws of a table of training runs, ready to be shown."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from palate.errors import DataError, ImportRefusedError
from palate.records import Estimate
from palate.report_text import table
from palate.stats import scaling
from palate.stats.scaling import Runs

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


def summarise(
    data: Runs, hold_out: float | None, budgets: Sequence[float] | None, near: float, replicates: int, seed: int
) -> dict[str, Estimate]:
    """Coefficients in both forms, how compute is best divided, and what was held out, each with its interval.

    Args:
        hold_out: predict the runs of more than 1 / `hold_out` of the largest compute from the others.
        budgets: compute budgets for the isoFLOP approach.
        near: a run belongs to a budget when its compute is within this factor of it.

    Raises DataError where a fit has too little to go on.
    """
    fitted = scaling.fit(data, replicates, seed)
    found = {name: fitted.estimate(lambda law, name=name: getattr(law, name)) for name in ("A", "B", "E")}
    found |= {name: fitted.estimate(lambda law, name=name: getattr(law, name)) for name in ("alpha", "beta")}
    found |= {"N_c": fitted.estimate(lambda law: law.scales[0]), "D_c": fitted.estimate(lambda law: law.scales[1])}
    found["exponent of N_opt ~ C^a, from the law"] = fitted.estimate(lambda law: law.exponent)
    if budgets is not None:
        _, power = scaling.iso_flop(data, budgets, near)
        found["exponent of N_opt ~ C^a, from isoFLOP"] = power.powers[0]
    if hold_out is not None:
        beyond = scaling.extrapolate(data, hold_out, replicates, seed)
        found["mean relative error on held-out runs"] = beyond.error
        for number, (predicted, seen) in enumerate(zip(beyond.predicted, beyond.held.L), 1):
            found[f"held-out run {number}, loss seen {seen:.5g}, predicted"] = predicted
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
