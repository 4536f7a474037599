"""How many prompts, annotators and votes a study needs, from how far verdicts vary between them.

A verdict (1 good, 0 same, -1 bad) is the net, plus what is special to its prompt, to its annotator, and the rest. With
every one of P prompts judged by `overlap` of A annotators, who share the work evenly, the net has the variance

    prompt / P + annotator / A + rest / (P overlap)

so more prompts never make up for too few annotators.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from palate.errors import DataError
from palate.stats.tally import Counts

MOST_PROMPTS = 1_000_000


@dataclass(frozen=True)
class Components:
    """Variances of a verdict between prompts, between annotators, and the rest."""

    prompt: float
    annotator: float
    rest: float

    def __post_init__(self) -> None:
        if not (min(self.prompt, self.annotator, self.rest) >= 0 and math.isfinite(self.total) and self.total > 0):
            raise DataError("variances that are not all >= 0, or all zero", "give three such as 0.15,0.02,0.5")

    @property
    def total(self) -> float:
        return self.prompt + self.annotator + self.rest

    def variance(self, prompts: int, annotators: int, overlap: int) -> float:
        """Of the net."""
        return self.prompt / prompts + self.annotator / annotators + self.rest / (prompts * overlap)


def components(counts: Counts) -> Components:
    """Variance components of pooled verdicts, by the method of moments (Henderson 1953, method 1); below zero is zero.

    Raises:
        DataError: annotators unknown, or a design that cannot tell prompts, annotators and the rest apart.
    """
    if counts.moments is None:
        raise DataError("it is unknown who gave these votes", "give the variances with --assume")
    squares, expected = counts.moments.squares, counts.moments.expected
    if np.linalg.matrix_rank(expected / counts.n) < 4:
        raise DataError(
            "these votes cannot tell prompts from annotators",
            "collect two votes a prompt from two or more people, or give the variances with --assume",
        )
    return Components(*np.linalg.solve(expected, squares)[1:].clip(min=0).tolist())


def prompts_needed(
    parts: Components, detect: float, annotators: int, overlap: int, power: float = 0.8, level: float = 0.95
) -> int | None:
    """The fewest prompts with which a net of `detect` is told from zero with probability `power`; None: no number is.

    By the normal approximation, with Student's t of the smaller sample as in `wins.analytic`.

    Raises DataError for an effect, power or design that makes no sense.
    """
    if not (0 < abs(detect) <= 1 and 0 < power < 1 and 1 <= overlap <= annotators):
        raise DataError(
            f"a net of {detect} with power {power}, {overlap} of {annotators} annotators a prompt",
            "give 0 < net <= 1, 0 < power < 1, and no more votes a prompt than annotators",
        )

    def enough(prompts: int) -> bool:
        sampled = min(prompts, annotators) if annotators > 1 else prompts  # one annotator is no sample
        reach = t.ppf((1 + level) / 2, sampled - 1) + norm.ppf(power)
        return bool(reach**2 * parts.variance(prompts, annotators, overlap) <= detect**2)

    if not enough(MOST_PROMPTS):
        return None
    low, high = 1, MOST_PROMPTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
