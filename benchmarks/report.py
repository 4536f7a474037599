"""Two systems side by side on a suite: each score, its difference on the same cases, and what failed and why."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from palate.errors import DataError
from palate.gsb import slices
from palate.records import Case, Estimate, Figure, Sample, Score
from palate.report import Split, score_difference, score_figure
from palate.report_text import table
from palate.store import Store

HEAD = ("scorer", "cases", "candidate", "baseline", "difference", "n")


@dataclass(frozen=True)
class Row:
    """One scorer on all cases ("all") or on those of a slice."""

    scorer: str
    slice: str
    candidate: Figure
    baseline: Figure
    difference: Figure

    @property
    def cells(self) -> tuple[str, ...]:
        shown = (_shown(one.estimate) for one in (self.candidate, self.baseline, self.difference))
        return (self.scorer, self.slice, *shown, str(self.difference.estimate.n))


@dataclass(frozen=True)
class Failures:
    """How many samples of a system there are, and for each reason how many have no video because of it."""

    system: str
    samples: int
    reasons: dict[str, int]

    def __str__(self) -> str:
        why = [f"{count} failed: {reason}" for reason, count in self.reasons.items()]
        return "; ".join([f"{self.system}: {self.samples} samples", *(why or ["none failed"])])


@dataclass(frozen=True)
class Report:
    """Everything that is told about a candidate and its baseline on one split of a suite."""

    candidate: str
    baseline: str
    suite: str
    split: str
    rows: tuple[Row, ...]
    failures: tuple[Failures, ...]

    @property
    def title(self) -> str:
        return f"{self.candidate} against {self.baseline} on {self.suite} ({self.split})"

    @property
    def notes(self) -> list[str]:
        """What the table leaves unsaid."""
        told = [one.estimate.note for row in self.rows for one in (row.candidate, row.baseline, row.difference)]
        return [
            "Intervals are 95%, t over cases, paired for the difference, each row by itself: of twenty rows without a "
            "difference, one is expected to show one.",
            *(f"{one}" for one in self.failures),
            *(f"{note}." for note in dict.fromkeys(filter(None, told))),
        ]

    @property
    def figures(self) -> list[Figure]:
        return [one for row in self.rows for one in (row.candidate, row.baseline, row.difference)]


def compare(store: Store, candidate: str, baseline: str, suite: str, split: Split, tag: str | None = None) -> Report:
    """Every scorer that both systems have numbers from; with a tag, also in each of its slices.

    Raises:
        DataError: a system has no samples there, or the two share no score.
    """
    cases = list(store.select(Case, suite=suite, split=split))
    failures = tuple(_failures(store, system, {case.id for case in cases}) for system in (candidate, baseline))
    for one in failures:
        if not one.samples:
            raise DataError(f"{one.system} has no samples of {suite} ({split})", "run or import them first")
    within = (
        [None, *((tag, name) for name in sorted({name for names in slices(cases, tag).values() for name in names}))]
        if tag
        else [None]
    )
    rows: list[Row] = []
    for scorer in sorted({score.scorer for score in store.select(Score)}):
        for part in within:
            try:
                ours, theirs = (score_figure(store, scorer, one, suite, split, part) for one in (candidate, baseline))
                difference = score_difference(store, scorer, candidate, baseline, suite, split, part)
            except DataError:  # this scorer has no numbers here
                continue
            rows.append(Row(scorer, part[1] if part else "all", ours, theirs, difference))
    if not rows:
        remedy = "score them, or ask people with `palate annotate plan`"
        raise DataError(f"{candidate} and {baseline} share no score on {suite} ({split})", remedy)
    return Report(candidate, baseline, suite, split, tuple(rows), failures)


def _failures(store: Store, system: str, cases: set[str]) -> Failures:
    samples = [one for one in store.select(Sample, system=system) if one.case in cases]
    return Failures(system, len(samples), dict(Counter(one.failure for one in samples if one.failure).most_common()))


def _shown(estimate: Estimate) -> str:
    value, low, high = ("–" if x is None else f"{x:.3f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def as_text(report: Report) -> str:
    return "\n\n".join([report.title, table(HEAD, [row.cells for row in report.rows]), "\n".join(report.notes)])


def as_markdown(report: Report) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells for row in report.rows)]
    rows = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
    return "\n\n".join([f"# {report.title}", rows, *(f"* {note}" for note in report.notes)])


def as_json(report: Report) -> str:
    rows = [
        {
            "scorer": row.scorer,
            "slice": row.slice,
            **{
                name: {"figure": one.id, **one.estimate.model_dump(mode="json")}
                for name, one in (
                    ("candidate", row.candidate),
                    ("baseline", row.baseline),
                    ("difference", row.difference),
                )
            },
        }
        for row in report.rows
    ]
    failures = {one.system: {"samples": one.samples, "failed": one.reasons} for one in report.failures}
    told = {name: getattr(report, name) for name in ("candidate", "baseline", "suite", "split")}
    return json.dumps({**told, "rows": rows, "failures": failures}, ensure_ascii=False)


def as_html(report: Report) -> str:
    """One page that needs nothing else; beside each row its difference is drawn, zero in the middle."""
    scale = max((abs(x) for row in report.rows for x in _ends(row.difference.estimate)), default=0.0) or 1.0
    head = "".join(f"<th>{escape(name)}</th>" for name in (*HEAD, ""))
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.cells) + f"<td>{_drawn(row, scale)}</td></tr>"
        for row in report.rows
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(report.title)}</title><style>{_STYLE}'
        f"</style><h1>{escape(report.title)}</h1><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<ul>{notes}</ul></html>"
    )


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "html": as_html,
    "json": as_json,
}


def _ends(estimate: Estimate) -> Iterator[float]:
    return (x for x in (estimate.low, estimate.value, estimate.high) if x is not None)


def _drawn(row: Row, scale: float) -> str:
    """The difference and its interval on a line of 200 pixels."""
    at = [100 + 95 * x / scale for x in _ends(row.difference.estimate)]
    middle = at[len(at) // 2] if at else 100
    line = f'<line x1="{at[0]:.1f}" x2="{at[-1]:.1f}" y1="8" y2="8" stroke="#246"/>' if at else ""
    return (
        '<svg width="200" height="16"><line x1="100" x2="100" y1="0" y2="16" stroke="#bbb"/>'
        f'{line}<circle cx="{middle:.1f}" cy="8" r="3" fill="#246"/></svg>'
    )


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; color: #123; }
table { border-collapse: collapse; } th, td { padding: .3em .8em; text-align: left; border-bottom: 1px solid #ddd; }
td { font-variant-numeric: tabular-nums; }
"""
