"""The suites, by name: each a function (split, count, seed) -> cases, and the scorer that can check its answers."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import shapes
from benchmarks.runner import Scorer
from palate.errors import DataError
from palate.records import Case
from rewards.programmatic import shapes_scores


@dataclass(frozen=True)
class Suite:
    about: str
    cases: Callable[[str, int, int], list[Case]]
    scorer: Scorer


SUITES = {shapes.SUITE: Suite("moving coloured shapes; a program checks every answer", shapes.cases, shapes_scores)}


def suite_named(name: str) -> Suite:
    """Raises DataError for a suite that is not there."""
    if name not in SUITES:
        raise DataError(f"no suite {name!r}", f"choose one of {', '.join(SUITES)}")
    return SUITES[name]
