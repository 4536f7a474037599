"""An interval for the net that holds at every look at once, so that a dashboard may be watched and a study stopped.

The normal mixture boundary (Robbins 1970; Howard et al. 2021, eq. 14) of the summed verdicts S less their mean:

    |S_t - E S_t| <= sqrt((v_t + r) log((v_t + r) / (r alpha^2)))    for all t at once, with probability >= 1 - alpha

for a Brownian motion run for a time v_t. Here v_t is the cluster-robust variance of S_t, as in the asymptotic
confidence sequences of Waudby-Smith et al. (2024).

Verdicts of a prompt, or of an annotator, come at different times, so S_t has no independent increments. It need not:
where verdicts correlate positively or not at all, S_s and S_t correlate at least as a Brownian motion at the times v_s
and v_t does, and by Slepian's inequality it crosses a boundary no more often. What is assumed is this sign; enough
prompts (and annotators, where they are a sample) for a normal sum and a good v_t; and that who is asked what next does
not depend on the verdicts so far. `make study` measures how often it errs.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import lambertw
from scipy.stats import norm

from palate.errors import DataError
from palate.records import Estimate
from palate.stats.tally import Counts
from palate.stats.wins import Form, value_and_deviation

LEAST_PROMPTS = 10  # below, neither a sum is normal nor its variance known


def boundary(v: ArrayLike, level: float = 0.95, tuned: float = 500.0) -> NDArray[np.float64]:
    """How far S may stray at variances `v` (in squared verdicts). It is narrowest, for its v, where v = `tuned`.

    `tuned` must not be chosen after the data. 500 is about a thousand verdicts; it is nearly as good from 100 to 5000.
    """
    alpha, v = 1 - level, np.asarray(v, float)
    r = tuned / (-float(lambertw(-(alpha**2) / math.e, -1).real) - 1)
    return np.sqrt((v + r) * np.log((v + r) / (r * alpha**2)))


def anytime(counts: Counts, level: float = 0.95) -> Estimate:
    """The net of all pooled verdicts so far. Its intervals of all looks hold together with probability `level`.

    Raises DataError for another aggregation: a majority rewrites its past.
    """
    if counts.rule != "pooled":
        raise DataError(f"no interval for every look at a {counts.rule} net", "pool the verdicts")
    value, deviation = value_and_deviation(counts, Form.NET)
    sampling, n = counts.sampling, counts.n
    low = high = None
    note = ""
    if sampling.n_prompts < LEAST_PROMPTS:
        note = f"no interval before {LEAST_PROMPTS} prompts"
    elif deviation is None:
        note = "no interval: nothing varies between clusters"
    else:
        # Student's t for Gauss's, as far as few clusters make the variance uncertain
        certain = sampling.quantile(level) / float(norm.ppf((1 + level) / 2))
        half = float(boundary((deviation * certain * n) ** 2, level)) / n
        low, high = max(value - half, -1.0), min(value + half, 1.0)
    return Estimate(
        value=value,
        low=low,
        high=high,
        n=n,
        level=level,
        method=f"{counts.rule}, normal mixture, {sampling.method}",
        clusters=sampling.clusters,
        note="; ".join(filter(None, (note, sampling.note))),
    )
