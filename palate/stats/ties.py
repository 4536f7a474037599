"""What a lead x of one system over another says about good, same and bad, under two models of ties.

    Davidson (1970)            exp(x / 2) : exp(t) : exp(-x / 2)                        t = log nu
    Rao and Kupper (1967)      good s(x - t), bad s(-x - t), same the rest              t = log k > 0, s the logistic

Both are concave in (x, t), and without ties both are Bradley and Terry's good s(x), bad s(-x). Arrays over the kinds
good, same, bad come first: (3, m) for leads (m,); without ties, `t` None, they are (2, m) of good and bad.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax

Floats = NDArray[np.float64]
Ties = Literal["davidson", "rao_kupper"]
START: dict[Ties, float] = {"davidson": 0.0, "rao_kupper": 0.5}


@dataclass(frozen=True)
class Curve:
    """The log probability of each kind, its slopes in x and t, and its curvatures, negated. All (kinds, m)."""

    log: Floats
    x: Floats
    t: Floats
    xx: Floats
    xt: Floats
    tt: Floats


def curve(ties: Ties, x: Floats, t: float | None) -> Curve:
    if t is None:
        return _bradley_terry(x)
    return _davidson(x, t) if ties == "davidson" else _rao_kupper(x, t)


def _bradley_terry(x: Floats) -> Curve:
    good, zero = expit(x), np.zeros((2, len(x)))
    log, slope = np.stack([log_expit(x), log_expit(-x)]), np.stack([1 - good, -good])
    return Curve(log, slope, zero, np.broadcast_to(good * (1 - good), zero.shape), zero, zero)


def _davidson(x: Floats, t: float) -> Curve:
    log = log_softmax(np.stack([x / 2, np.full_like(x, t), -x / 2]), axis=0)
    good, same, bad = np.exp(log)
    lead = (good - bad) / 2
    slope_x = np.array([0.5, 0, -0.5])[:, None] - lead
    slope_t = np.array([0.0, 1, 0])[:, None] - same
    xx, xt, tt = (good + bad) / 4 - lead**2, -lead * same, same * (1 - same)
    return Curve(log, slope_x, slope_t, *(np.broadcast_to(one, log.shape) for one in (xx, xt, tt)))


def _rao_kupper(x: Floats, t: float) -> Curve:
    if t <= 0:  # no probability is left for ties
        nothing = np.full((3, len(x)), -np.inf)
        return Curve(*[nothing] * 6)
    up, down = expit(t - x), expit(t + x)  # of not being good, of not being bad
    log_good, log_bad = log_expit(x - t), log_expit(-x - t)
    zero = np.zeros_like(x)
    ratio = -np.expm1(-2 * t)  # same = (k^2 - 1) good bad
    log_same = 2 * t + np.log(ratio) + log_good + log_bad
    a, b = up * (1 - up), down * (1 - down)
    return Curve(
        np.stack([log_good, log_same, log_bad]),
        np.stack([up, up - down, -down]),
        np.stack([-up, 2 / ratio - up - down, -down]),
        np.stack([a, a + b, b]),
        np.stack([-a, b - a, b]),
        np.stack([a, a + b + 4 * np.exp(-2 * t) / ratio**2 + zero, b]),
    )
