"""Does a reward deserve trust? Probes that should, or should not, move its scores; calibration; who it agrees with.

A probe changes a video or its prompt in a way whose effect on people is known, and asks the reward again: what moved,
in deviations of its calibration videos, over prompts. Some answers a reward rightly refuses (a clip at half the rate is
not the clip it was taught); they are counted and never averaged.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from palate.errors import DataError
from palate.media import decode_video, encode_video
from palate.records import Axis, Estimate
from palate.report_text import table
from palate.stats.metric import accuracy
from rewards.encoder import BLIND
from rewards.pairs import PairSet
from rewards.reward import Answer, Reward

SLACK = 0.25  # deviations: a change that stays within them does not matter
Expectation = Literal["falls", "stays", "free"]


@dataclass(frozen=True)
class Finding:
    """What one probe did to one column. `passed` is None where nothing is expected, or too little is known."""

    probe: str
    column: str
    change: Estimate
    refused: int
    expected: Expectation
    passed: bool | None


def shuffled(answers: Sequence[Answer]) -> list[Answer]:
    """Each video under the prompt of another answer; raises DataError where all have the same prompt."""
    prompts = [one.prompt for one in answers]
    half = len(prompts) // 2
    if max(map(prompts.count, prompts)) > half:
        raise DataError("one prompt has most of the answers", "audit answers to more prompts")
    sorted_rows = sorted(range(len(prompts)), key=prompts.__getitem__)  # half of it further on, every prompt is another
    moved = dict(zip(sorted_rows, sorted_rows[half:] + sorted_rows[:half]))
    return [replace(one, prompt=prompts[moved[index]]) for index, one in enumerate(answers)]


def recoded(answer: Answer) -> Answer:
    """Through H.264 at its own size, colour at half the resolution."""
    height, width = answer.frames.shape[1:3]
    even = np.pad(answer.frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with tempfile.TemporaryDirectory() as folder:
        encode_video(Path(folder) / "a.mp4", even, answer.fps)
        return replace(answer, frames=decode_video(Path(folder) / "a.mp4").frames[:, :height, :width])


def _each(change: Callable[[Answer], Answer]) -> Callable[[Sequence[Answer]], list[Answer]]:
    return lambda answers: [change(one) for one in answers]


PROBES: dict[str, Callable[[Sequence[Answer]], list[Answer]]] = {
    "prompt shuffle": shuffled,
    "double rate": _each(lambda one: replace(one, frames=one.frames.repeat(2, axis=0), fps=2 * one.fps)),
    "half rate": _each(lambda one: replace(one, fps=one.fps / 2)),
    "codec": _each(recoded),
    "resize": _each(lambda one: replace(one, frames=one.frames.repeat(2, axis=1).repeat(2, axis=2))),
    "brightness": _each(lambda one: replace(one, frames=(one.frames.astype(int) + 15).clip(0, 255).astype(np.uint8))),
    "length": _each(lambda one: replace(one, frames=one.frames[: max(1, 3 * len(one.frames) // 4)])),
    "duplicate frames": _each(lambda one: replace(one, frames=one.frames[np.arange(len(one.frames)) // 2 * 2])),
}


def expected(probe: str, column: str) -> Expectation:
    """A wrong prompt costs what may see it and leaves the rest; the same video told otherwise costs nothing."""
    blind = column.endswith(BLIND)
    if probe == "prompt shuffle":
        return "stays" if blind else "falls"
    if probe in ("double rate", "resize"):
        return "stays"
    return "falls" if probe == "duplicate frames" and column.endswith("motion_quality") else "free"


def probe(reward: Reward, answers: Sequence[Answer]) -> list[Finding]:
    """Every probe on every column. Raises DataError for fewer than two prompts."""
    plain = reward.score(answers)
    findings: list[Finding] = []
    for name, change in PROBES.items():
        for before, after in zip(plain, reward.score(change(answers))):
            both = before.known & after.known
            moved = (after.value - before.value)[both]
            found = _mean([one.prompt for one, known in zip(answers, both) if known], moved)
            wanted = expected(name, before.name)
            refused = int((before.known & ~after.known).sum())
            findings.append(Finding(name, before.name, found, refused, wanted, _passed(wanted, found)))
    return findings


def _passed(wanted: Expectation, found: Estimate) -> bool | None:
    if wanted == "free" or found.value is None:
        return None
    if found.low is None or found.high is None:  # nothing varies: every answer moved by the same amount
        return abs(found.value) < SLACK if wanted == "stays" else None
    return found.high < 0 if wanted == "falls" else found.low > -SLACK and found.high < SLACK


def _mean(prompts: Sequence[str], moved: NDArray[np.float64]) -> Estimate:
    """Over prompts, each by its own mean."""
    method = "mean change over prompts, t"
    if not len(moved):
        return Estimate(value=None, low=None, high=None, n=0, method=method, note="every answer was refused")
    names, group = np.unique(np.array(prompts), return_inverse=True)
    means = np.bincount(group, moved) / np.bincount(group)
    value, clusters = float(means.mean()), {"prompts": len(names)}
    if len(names) < 2 or np.ptp(means) == 0:
        note = "no interval: nothing varies between prompts"
        return Estimate(value=value, low=None, high=None, n=len(moved), method=method, clusters=clusters, note=note)
    half = float(stats.t.ppf(0.975, len(names) - 1) * means.std(ddof=1) / np.sqrt(len(names)))
    return Estimate(value=value, low=value - half, high=value + half, n=len(moved), method=method, clusters=clusters)


@dataclass(frozen=True)
class Reliability:
    """How often the side that is said to win with probability p does win.

    Attributes:
        said, seen: of each bin, the mean probability of the likelier side and the share of wins it had.
        n: pairs of each bin.
        ece: expected calibration error, the mean of |said - seen| by pairs.
        ece_of_calibrated: what that would be, with this many pairs, of probabilities that are right: never zero.
    """

    axis: Axis
    said: tuple[float, ...]
    seen: tuple[float, ...]
    n: tuple[int, ...]
    ece: Estimate
    ece_of_calibrated: Estimate


def reliability(
    axis: Axis,
    label: Float[NDArray[np.float64], " pairs"],
    lead: Float[NDArray[np.float64], " pairs"],
    prompt: Sequence[str],
    bins: int = 10,
    draws: int = 500,
) -> Reliability:
    """Over the pairs that people order, from leads in logits; bins of equal size; intervals by resampling prompts.

    Raises DataError for fewer ordered pairs than bins.
    """
    kept = (np.abs(label) == 1) & np.isfinite(lead)
    if kept.sum() < bins:
        raise DataError(f"{int(kept.sum())} ordered pairs on {axis}", f"a curve of {bins} bins needs more")
    said = expit(np.abs(lead[kept]))
    won = (np.sign(lead[kept]) == label[kept]).astype(float)
    group = np.unique(np.array(prompt, object)[kept].astype(str), return_inverse=True)[1]
    place = np.argsort(np.argsort(said, kind="stable"), kind="stable") * bins // len(said)
    rng = np.random.default_rng(0)
    resampled = []
    rows = [np.flatnonzero(group == one) for one in range(int(group.max()) + 1)]
    for _ in range(draws):
        chosen = np.concatenate([rows[one] for one in rng.integers(len(rows), size=len(rows))])
        resampled.append(_ece(said[chosen], won[chosen], place[chosen], bins))
    right = [_ece(said, (rng.random(len(said)) < said).astype(float), place, bins) for _ in range(draws)]
    size = np.bincount(place, minlength=bins)
    return Reliability(
        axis,
        tuple((np.bincount(place, said, bins) / size).tolist()),
        tuple((np.bincount(place, won, bins) / size).tolist()),
        tuple(size.tolist()),
        _spread(_ece(said, won, place, bins), resampled, len(said), "percentiles over resampled prompts", len(rows)),
        _spread(float(np.mean(right)), right, len(said), "drawn from the probabilities themselves", len(rows)),
    )


def _ece(said: NDArray[np.float64], won: NDArray[np.float64], place: NDArray[np.intp], bins: int) -> float:
    return float(np.abs(np.bincount(place, said - won, bins)).sum() / len(said))


def _spread(value: float, draws: Sequence[float], n: int, method: str, prompts: int) -> Estimate:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(
        value=value,
        low=float(low),
        high=float(high),
        n=n,
        method=f"expected calibration error, {method}",
        clusters={"prompts": prompts},
    )


def by_group(
    groups: Mapping[str, PairSet], axis: Axis, values: Callable[[PairSet], Float[NDArray[np.float64], " videos"]]
) -> dict[str, Estimate]:
    """Accuracy without ties on what each group of annotators said; a group that orders no pair is not there."""
    found: dict[str, Estimate] = {}
    for name, pairs in groups.items():
        label, score = pairs.label(axis), values(pairs)
        ordered = np.abs(label) == 1
        lead = (score[pairs.first] - score[pairs.second])[ordered]
        if np.isfinite(lead).any():
            found[name] = accuracy(label[ordered].astype(int), lead, pairs.prompts[ordered])
    return found


def text(findings: Sequence[Finding], curves: Mapping[Axis, Reliability], groups: Mapping[str, Estimate]) -> str:
    """Three tables for people."""
    rows = [
        [one.probe, one.column, _interval(one.change), str(one.refused), one.expected, _word(one.passed)]
        for one in findings
    ]
    head = ["probe", "column", "change, deviations", "refused", "should", ""]
    calibration = [
        [axis, _interval(one.ece), _interval(one.ece_of_calibrated), str(sum(one.n))] for axis, one in curves.items()
    ]
    agreement = [[name, _interval(one), str(one.n)] for name, one in groups.items()]
    parts = [
        table(head, rows),
        table(["axis", "ECE", "ECE were it calibrated", "pairs"], calibration),
        table(["annotators", "accuracy without ties", "pairs"], agreement),
    ]
    return "\n\n".join(filter(None, parts))


def _word(passed: bool | None) -> str:
    return "" if passed is None else "ok" if passed else "FAILS"


def _interval(found: Estimate) -> str:
    value, low, high = ("–" if one is None else f"{one:.3f}" for one in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"
