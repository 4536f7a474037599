"""What a page is made of. A page yields these; `show` puts them on a screen and `export` into a file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

from dashboards.charts import Chart
from palate.records import Estimate

Format = Callable[[Any], str]
Tone = Literal["good", "bad", "open"]


@dataclass(frozen=True)
class Exhibit:
    """A table, and perhaps charts of it.

    Attributes:
        key: names it in files and in the page.
        says: unit, n, interval, rule: what a number in it means.
        table: the data behind the charts; all of it.
        formats: column -> how its numbers are written.
        open: whether the table stands beside its charts from the start.
        simulated: whether its votes are a program's. None: no vote is in it.
    """

    key: str
    title: str
    says: str
    table: pd.DataFrame
    formats: Mapping[str, Format] = field(default_factory=dict)
    charts: Sequence[Chart] = ()
    simulated: bool | None = None
    open: bool = False

    @property
    def csv(self) -> bytes:
        """With a column that says whose votes these are, so that the file cannot be mistaken either."""
        table = self.table
        if self.simulated is not None:
            table = table.assign(votes="SIMULATED" if self.simulated else "people")
        return table.to_csv(index=False).encode()

    @property
    def file(self) -> str:
        return f"{'SIMULATED-' if self.simulated else ''}{self.key}"


@dataclass(frozen=True)
class Card:
    """A question and its answer in words."""

    question: str
    answer: str
    because: str
    tone: Tone


@dataclass(frozen=True)
class Missing:
    """Something that the record does not hold, and the command that would put it there."""

    what: str
    command: str


@dataclass(frozen=True)
class Remark:
    """A sentence between exhibits; `warning` where it must not be overlooked."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Text:
    """Lines as they are."""

    title: str
    text: str


@dataclass(frozen=True)
class Clip:
    """A video of the record, and what it is; `path` None where there is none."""

    label: str
    path: Path | None
    note: str


@dataclass(frozen=True)
class Clips:
    """Videos side by side."""

    title: str
    clips: tuple[Clip, ...]


Item = Exhibit | Card | Missing | Remark | Text | Clips
Content = Iterator[Item]


class Ask(Protocol):
    """How a page learns what is wanted: from widgets, from a URL, or from nobody. A key is the same on every page."""

    def one(self, key: str, label: str, options: Sequence[str], help: str = "") -> str:
        """One of the options, the first of which is the default."""
        ...

    def text(self, key: str, label: str, help: str = "") -> str: ...

    def number(self, key: str, label: str, default: float, least: float, most: float, help: str = "") -> float: ...

    def yes(self, key: str, label: str) -> bool: ...

    def file(self, key: str, label: str) -> bytes | None: ...


def percent(value: float | None) -> str:
    """1.04 as 104%, the way GSB ratios are printed."""
    return "–" if value is None or pd.isna(value) else f"{value:.0%}"


def fine(value: float | None) -> str:
    """A share, with a decimal."""
    return "–" if value is None or pd.isna(value) else f"{value:.1%}"


def signed(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:+.1%}"


def whole(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:,.0f}"


def short(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.3g}"


def spread(prefix: str, one: Estimate | None) -> dict[str, float | None]:
    """An estimate as three columns."""
    value, low, high = (None, None, None) if one is None else (one.value, one.low, one.high)
    return {prefix: value, f"{prefix} low": low, f"{prefix} high": high}


def spread_formats(prefix: str, how: Format) -> dict[str, Format]:
    return dict.fromkeys((prefix, f"{prefix} low", f"{prefix} high"), how)


def interval(one: Estimate, how: Format) -> str:
    """Value and interval in a line, or why there is none."""
    if one.low is None or one.high is None:
        return f"{how(one.value)} ({one.note})"
    return f"{how(one.value)} [{how(one.low)}, {how(one.high)}]"


def numbers(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> pd.DataFrame:
    """Rows as a table, in which a column of numbers stays one though some are unknown."""
    table = pd.DataFrame(rows, columns=list(columns) or None)
    for name in table:
        cells = table[name].tolist()
        if None in cells and all(one is None or isinstance(one, int | float) for one in cells):
            table[name] = table[name].astype(float)
    return table
