"""The suites, by name: cases, and the scorer that can check their answers. Imported prompts are suites of the store."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks import omnivideo, shapes, shapes_omni
from benchmarks.runner import SCALE, Scorer
from benchmarks.shapes_plans import TASKS
from palate.errors import DataError
from palate.media import MediaFolder, Video
from palate.records import Case, Sample, Score
from palate.store import Store
from rewards.programmatic import shapes_scores


def unscored(case: Case, sample: Sample, video: Video) -> list[Score]:
    """No program can check the answers: people and judges do."""
    return []


def as_they_are(cases: list[Case], media: MediaFolder) -> list[Case]:
    return cases


@dataclass(frozen=True)
class Suite:
    """`cases` takes a split, how many (None: as many as the suite thinks fit) and a seed; `attach` draws references."""

    about: str
    cases: Callable[[str, int | None, int], list[Case]]
    scorer: Scorer = unscored
    attach: Callable[[list[Case], MediaFolder], list[Case]] = as_they_are


def _drawn(cases: list[Case], media: MediaFolder) -> list[Case]:
    return shapes_omni.attach(cases, media, SCALE)


SUITES = {
    shapes.SUITE: Suite("moving coloured shapes; a program checks every answer", shapes.cases, shapes_scores),
    shapes_omni.SUITE: Suite(
        f"OmniVideo's {len(TASKS)} tasks in the shapes world; a program checks every answer",
        shapes_omni.cases,
        shapes_omni.scores,
        _drawn,
    ),
    omnivideo.SUITE: Suite("22 tasks of text, references and editing; people judge", omnivideo.cases_en),
    f"{omnivideo.SUITE}-zh": Suite("the same in Chinese", omnivideo.cases_zh),
}


def imported(store: Store) -> dict[str, Suite]:
    """The suites that were imported into a store."""
    counts = Counter(case.suite for case in store.select(Case) if case.suite not in SUITES)
    return {name: replace(stored_or_named(store, name), about=f"{n} cases, imported") for name, n in counts.items()}


def suite_named(name: str) -> Suite:
    """Raises DataError for a suite that is not there."""
    if name not in SUITES:
        raise DataError(f"no suite {name!r}", f"choose one of {', '.join(SUITES)}")
    return SUITES[name]


def stored_or_named(store: Store, name: str) -> Suite:
    """A suite of ours, or the cases that were imported under this name.

    Raises:
        DataError: neither is there.
    """
    if name in SUITES:
        return SUITES[name]
    if not store.count(Case, suite=name):
        remedy = f"choose one of {', '.join(SUITES)}, or import it with `palate bench import`"
        raise DataError(f"no suite {name!r} here or in {store.name}", remedy)

    def cases(split: str, count: int | None, seed: int) -> list[Case]:
        found = list(store.select(Case, suite=name, split=split))
        if (count or 1) > len(found):
            raise DataError(f"{name} has {len(found)} {split} cases", "ask for as many or fewer")
        return [found[at] for at in np.random.default_rng(seed).permutation(len(found))[:count]]

    return Suite(f"imported into {store.name}", cases)
