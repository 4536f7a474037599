"""How the two samples of each comparison differ in what is not quality: "style", which ratings can be rid of."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from math import nan
from statistics import fmean

import numpy as np

from palate.media import Video
from palate.records import Comparison, Sample, Score
from palate.store import Store

MEASURED: dict[str, Callable[[Video], float]] = {
    "seconds": lambda video: video.seconds,
    "fps": lambda video: video.fps,
    "pixels": lambda video: float(np.prod(video.frames.shape[1:3])),
}


def style(store: Store, comparisons: Collection[str], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each name, the candidate's less the baseline's of each comparison; nan where one has no video or no score.

    "seconds", "fps" and "pixels" are measured on the videos, and differ in doublings; any other name is a scorer's, and
    differs in standard deviations over samples.
    """
    pairs = list(store.select(Comparison, id=list(comparisons)))
    samples = sorted({id for one in pairs for id in (one.candidate, one.baseline)})
    found: dict[str, dict[str, float]] = {}
    videos = {one.id: one.media for one in store.select(Sample, id=samples) if one.media}
    kinds = [name for name in names if name in MEASURED]
    measured: dict[str, dict[str, float]] = {name: {} for name in kinds}
    for id, media in videos.items() if kinds else ():
        video = store.media.video(media)
        for name in kinds:
            measured[name][id] = float(np.log2(MEASURED[name](video)))
    for name in names:
        values = measured[name] if name in MEASURED else _scores(store, name, samples)
        title = f"twice the {name}" if name in MEASURED else f"a deviation of {name}"
        found[title] = {one.id: values.get(one.candidate, nan) - values.get(one.baseline, nan) for one in pairs}
    return found


def _scores(store: Store, scorer: str, samples: Sequence[str]) -> dict[str, float]:
    """A scorer's mean score of each sample, in standard deviations."""
    values: dict[str, list[float]] = defaultdict(list)
    for one in store.select(Score, scorer=scorer, sample=samples):
        if one.value is not None:
            values[one.sample].append(one.value)
    means = {sample: fmean(scores) for sample, scores in values.items()}
    spread = float(np.std(list(means.values()))) if means else 0.0
    return {sample: mean / (spread or 1.0) for sample, mean in means.items()}
