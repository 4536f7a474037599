"""Which pairs to ask next, so that a budget of votes goes where the ranking is least certain.

With many systems most pairs are decided early, and votes on them are wasted. Top-two Thompson sampling (Russo 2016,
arXiv 1602.08448) asks about the likely best and its likely rivals: draw strengths from what is believed so far, take
the best; draw again until another one is the best; ask about these two. It finds the best system with far fewer votes,
and says little about the order at the bottom. For one candidate against one baseline use `annotation.design.versus`.

Systems that are picked by their votes look better than they are: quote intervals of a study of its own, or `anytime`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from annotation.design import mixed
from palate.errors import DataError
from palate.records import OVERALL, Axis, Comparison, Judgement, Sample, Verdict

Floats = NDArray[np.float64]

PRIOR = 2.0  # standard deviation of a system's strength, in logits, before any vote
_POINTS = {Verdict.GOOD: 1.0, Verdict.SAME: 0.5, Verdict.BAD: 0.0}


def next_round(
    study: str,
    samples: Iterable[Sample],
    comparisons: Iterable[Comparison],
    judgements: Iterable[Judgement],
    budget: int,
    seed: int,
    axis: Axis = OVERALL,
    gold: Sequence[tuple[Sample, Sample]] = (),
    repeat: float = 0.0,
) -> list[Comparison]:
    """The next `budget` comparisons, on pairs of samples not shown yet, with gold and repeats among them.

    Each case is asked about equally often, to within what is left of it, and sides alternate as in `versus`.

    Args:
        comparisons: all so far; only pairs of `samples` are looked at.
        judgements: all so far.
        gold, repeat: as in `versus`; they come on top of the budget.

    Returns:
        Fewer than `budget` where pairs run out.

    Raises:
        DataError: fewer than two systems have videos.
    """
    shown = {one.id: one for one in samples if one.media is not None}
    systems = sorted({one.system for one in shown.values()})
    if len(systems) < 2:
        raise DataError(f"{len(systems)} systems have videos", "give samples of two or more")
    asked = {
        one.id: one for one in comparisons if one.role == "normal" and {one.candidate, one.baseline} <= shown.keys()
    }
    points = np.zeros((len(systems), len(systems)))
    rows = list(judgements)
    superseded = {one.supersedes for one in rows}
    for one in rows:
        if one.comparison in asked and one.id not in superseded and axis in one.verdicts:
            pair = asked[one.comparison]
            i, j = (systems.index(shown[sample].system) for sample in (pair.candidate, pair.baseline))
            won = _POINTS[one.verdicts[axis].counted]
            points[i, j] += won
            points[j, i] += 1 - won
    rng = np.random.default_rng([seed, len(asked)])
    used = Counter(one.case for one in asked.values())
    seen = {frozenset((one.candidate, one.baseline)) for one in asked.values()}
    cases: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for id, one in sorted(shown.items()):
        cases[one.case][one.system].append(id)
    chosen: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for i, j in top_two(points, budget, rng):
        free = [
            (used[case], rng.random(), case, (first, second))
            for case, own in cases.items()
            for first in own[systems[i]]
            for second in own[systems[j]]
            if frozenset((first, second)) not in seen
        ]
        if free:
            _, _, case, pair = min(free)
            used[case] += 1
            seen.add(frozenset(pair))
            chosen[case].append(pair)
    return mixed(study, chosen, gold, repeat, seed)


def top_two(points: Floats, budget: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """`budget` pairs of different systems: the likely best against its likely rivals.

    Args:
        points: (k, k) points of the row's system against the column's, a tie half a point to each.
    """
    mean, covariance = believed(points)
    pairs: list[tuple[int, int]] = []
    draws = rng.multivariate_normal(mean, covariance, size=(budget, 2 + 8))
    for best in draws.argmax(2):
        rivals = best[best != best[0]]
        # Where one system is certain to be the best, its rival is the one believed to be second.
        second = int(rivals[0]) if len(rivals) else int(np.argsort(-mean)[np.argsort(-mean) != best[0]][0])
        pairs.append((int(best[0]), second))
    return pairs


def believed(points: Floats) -> tuple[Floats, Floats]:
    """Strengths (k,) in logits and their covariance (k, k): Bradley-Terry with a normal prior, by Laplace."""
    n, k = points + points.T, len(points)
    strength = np.zeros(k)
    information = np.eye(k)
    for _ in range(50):
        chance = expit(strength[:, None] - strength)
        slope = (points - n * chance).sum(1) - strength / PRIOR**2
        weight = n * chance * (1 - chance)
        information = np.diag(weight.sum(1)) - weight + np.eye(k) / PRIOR**2
        step = np.linalg.solve(information, slope)
        strength = strength + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return strength, np.asarray(np.linalg.inv(information), np.float64)
