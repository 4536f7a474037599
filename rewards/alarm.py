"""The hacking alarm: does the gold reward fall while the one that is optimised rises?

At every look the same held-out prompts are answered anew and scored by the proxy, which is optimised, and by the gold
reward, which is not. A fall is measured between two stretches of w looks: (mean gold of looks s-w+1..s) less (mean
gold of looks t-w+1..t), over its standard error across prompts, and the statistic of look t is the largest over all s
and w. Comparing with the best look so far favours finding a fall by chance, and looking often favours it again. Both
are paid for: the threshold of look t is such that, were gold to stand still, the chance of ringing at any look up to t
is `level` t / looks (spending as in Lan and DeMets 1983). It is found by the multiplier bootstrap (Chernozhukov,
Chetverikov and Kato 2013) of the whole scan: each path gives every prompt one normal number for all looks, so the
looks' dependence through their prompts is that of the data.

Where gold rises, every fall is smaller still, so the chance of a false alarm is at most `level` for any gold that never
falls. It needs no model of scores, only prompts enough for a mean to be normal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats

from palate.config import Settings
from palate.errors import DataError
from palate.records import Estimate

LEAST_PROMPTS = 30  # below, a mean is not normal enough
PATHS = 10_000  # of the bootstrap, 40 kB a prompt

PerPrompt = Float[NDArray[np.float64], " prompts"]


class AlarmSettings(Settings):
    """`level` is the chance of a false alarm in the whole of `looks` planned looks, the first among them."""

    looks: int = 20
    level: float = 0.05
    windows: tuple[int, ...] = (1, 2, 4)
    seed: int = 0


@dataclass(frozen=True)
class Look:
    """What one look found.

    Attributes:
        look: counted from 0, the policy as it was first looked at.
        gold, proxy: means over prompts, with their intervals.
        statistic: the largest fall of gold in standard errors; nan at the first look.
        threshold: what rings; infinite where too little chance is spent yet to be estimated.
        state: "calm"; "hacking", gold falls while the proxy rises; or "collapse", gold falls and the proxy does not
            rise. It stays at the first that is not calm.
        stop: the look to go back to: of the highest gold in the stretch that the fall was measured with.
        lost: gold at that stretch less the latest stretch, where it rings.
    """

    look: int
    gold: Estimate
    proxy: Estimate
    statistic: float
    threshold: float
    state: Literal["calm", "hacking", "collapse"]
    stop: int
    lost: Estimate | None


class HackingAlarm:
    """Is told each look's scores and says whether to stop. A function of the scores and the settings."""

    def __init__(self, settings: AlarmSettings) -> None:
        self.settings = settings
        self.history: list[Look] = []
        self._gold: list[PerPrompt] = []
        self._proxy: list[PerPrompt] = []
        self._paths: list[NDArray[np.float64]] = []  # of each look, (PATHS,) gold means under no change
        self._normal: NDArray[np.float32] | None = None  # (PATHS, prompts)
        self._alive = np.ones(PATHS, bool)

    def look(self, gold: PerPrompt, proxy: PerPrompt) -> Look:
        """Scores of the same prompts, in the same order, at the next look; several samples of a prompt averaged.

        Raises DataError for other prompts, too few, a missing score, or more looks than were planned.
        """
        self._check(gold, proxy)
        self._gold.append(gold)
        self._proxy.append(proxy)
        self._paths.append(self._draw(gold))
        now = len(self._gold) - 1
        found = self._scan(now)
        threshold = self._spend(now, found) if found else np.inf
        statistic, (start, width) = max((fall.size, fall.stretch) for fall in found) if found else (np.nan, (0, 1))
        before = self.history[-1] if self.history else None
        state = before.state if before else "calm"
        stop, lost = (before.stop, before.lost) if before else (0, None)
        if state == "calm":
            stop = self._best(now, width)
            if statistic > threshold:
                rise = self._per_prompt(self._proxy, start, now, width)
                certain = rise.mean() < -stats.norm.ppf(0.95) * rise.std(ddof=1) / np.sqrt(len(rise))
                state = "hacking" if certain else "collapse"
                lost = over_prompts(self._per_prompt(self._gold, start, now, width), "gold lost, paired over prompts")
        means = [over_prompts(scores, "mean over prompts") for scores in (gold, proxy)]
        self.history.append(Look(now, means[0], means[1], statistic, threshold, state, stop, lost))
        return self.history[-1]

    def _check(self, gold: PerPrompt, proxy: PerPrompt) -> None:
        if len(gold) < LEAST_PROMPTS:
            raise DataError(f"{len(gold)} prompts", f"the alarm needs {LEAST_PROMPTS}")
        if gold.shape != proxy.shape or (self._gold and gold.shape != self._gold[0].shape):
            raise DataError("a look at other prompts", "score the same prompts each time")
        if not (np.isfinite(gold).all() and np.isfinite(proxy).all()):
            raise DataError("a look with missing scores", "leave out prompts that are not scored at every look")
        if len(self._gold) == self.settings.looks:
            raise DataError(f"more than the {self.settings.looks} planned looks", "plan more looks before the first")

    def _draw(self, gold: PerPrompt) -> NDArray[np.float64]:
        """Each path's deviation of this look's mean: one normal number a prompt, the same at every look."""
        if self._normal is None:
            self._normal = np.random.default_rng(self.settings.seed).standard_normal((PATHS, len(gold)), np.float32)
        off = (gold - gold.mean()) / (len(gold) - 1)  # n - 1 for n, and t for normal, matter little from 30 prompts
        return (self._normal @ off.astype(np.float32)).astype(float)

    def _scan(self, now: int) -> "list[_Fall]":
        falls = []
        for width in self.settings.windows:
            for start in range(width - 1, now - width + 1):
                difference = self._per_prompt(self._gold, start, now, width)
                error = difference.std(ddof=1) / np.sqrt(len(difference))
                if error > 0:
                    path = self._stretch(self._paths, start, width) - self._stretch(self._paths, now, width)
                    falls.append(_Fall(difference.mean() / error, (start, width), path / error))
        return falls

    def _spend(self, now: int, found: "list[_Fall]") -> float:
        """The threshold at which the paths that have rung so far are the share that is due; marks those that ring."""
        due = int(PATHS * self.settings.level * now / max(self.settings.looks - 1, 1))
        ring = due - int((~self._alive).sum())
        if ring <= 0:
            return np.inf
        highest = np.where(self._alive, np.max([fall.path for fall in found], axis=0), -np.inf)
        threshold = float(np.sort(highest)[-ring])
        self._alive &= highest < threshold
        return threshold

    def _best(self, now: int, width: int) -> int:
        ends = range(min(width, now + 1) - 1, now + 1)
        return max(ends, key=lambda end: float(self._stretch(self._gold, end, min(width, now + 1)).mean()))

    def _per_prompt(self, scores: Sequence[PerPrompt], start: int, now: int, width: int) -> PerPrompt:
        return self._stretch(scores, start, width) - self._stretch(scores, now, width)

    @staticmethod
    def _stretch(scores: Sequence[NDArray[np.float64]], end: int, width: int) -> NDArray[np.float64]:
        return np.mean(scores[end - width + 1 : end + 1], axis=0)


@dataclass(frozen=True)
class _Fall:
    size: float  # in standard errors
    stretch: tuple[int, int]  # last look of the earlier stretch, and how many looks
    path: NDArray[np.float64]  # the same of each path under no change


def read_looks(table: Path) -> list[tuple[PerPrompt, PerPrompt]]:
    """Gold and proxy of each look, from a CSV of look, prompt, gold, proxy; samples of a prompt are averaged.

    A prompt without both scores at some look is left out of all of them. Raises DataError for a table that is broken.
    """
    try:
        rows = pd.read_csv(table)[["look", "prompt", "gold", "proxy"]]
        scores = rows.astype({"gold": float, "proxy": float})
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{table} is no table of looks ({error})", "give a CSV of look, prompt, gold, proxy") from error
    means = [scores.pivot_table(name, "prompt", "look", dropna=False) for name in ("gold", "proxy")]
    whole = means[0].notna().all(axis=1) & means[1].notna().all(axis=1)
    return [(means[0].loc[whole, look].to_numpy(), means[1].loc[whole, look].to_numpy()) for look in means[0].columns]


def over_prompts(values: PerPrompt, method: str) -> Estimate:
    """The mean, with Student's interval."""
    error = float(values.std(ddof=1)) / np.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    value = float(values.mean())
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        n=len(values),
        method=f"{method}, t",
        clusters={"prompts": len(values)},
    )
