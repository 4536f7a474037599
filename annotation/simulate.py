"""Simulated people with a known taste: the loop without its slowest part, and data whose truth is known.

A person prefers by a weighted difference of what can be measured in the two samples, ties as Rao and Kupper (1967) have
it, leans to one side of the screen, tires of nothing, and now and then skips. Some people answer at random. Everything
they make is marked as simulated. They differ from real people in that a person's verdicts on several axes are
independent given the two samples, nobody learns or tires, and nobody ever answers `both_bad`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from palate.config import Settings
from palate.errors import DataError
from palate.records import OVERALL, Axis, Comparison, Judgement, Score, Side, Verdict, content_hash

_ANSWERS = (Verdict.GOOD, Verdict.SAME, Verdict.BAD)

Features = Mapping[str, Mapping[str, float] | None]  # sample id -> feature -> number; None: the sample failed


class Taste(Settings):
    """What a population likes, how alike its people are, and how carefully they answer.

    The defaults give tie rates and side leanings like those measured on public votes (Rao-Kupper k 2.4 to 2.6, about
    0.1 logits towards the left). Someone who wants prompts followed prefers a video with every one of five checks right
    to one with four about five times in six; quality moves them less.
    """

    weights: dict[Axis, dict[str, float]] = Field(
        default={
            OVERALL: {"prompt": 12.0, "motion": 3.0, "visual": 3.0},
            "prompt_following": {"prompt": 14.0},
            "motion_quality": {"motion": 8.0},
            "visual_quality": {"visual": 8.0},
        },
        min_length=1,
        description="logits for a difference of one in a feature, by axis",
    )
    weights_sd: float = Field(default=0.25, ge=0, description="spread of a weight between people, relative to it")
    tie: float = Field(default=2.45, ge=1, description="Rao-Kupper k: equal samples tie with probability (k-1)/(k+1)")
    tie_sd: float = Field(default=0.25, ge=0, description="spread of log(k - 1) between people")
    left: float = Field(default=0.1, description="logits added for the sample on the left")
    left_sd: float = Field(default=0.1, ge=0, description="spread of that between people")
    careless: float = Field(default=0.05, ge=0, le=1, description="share of people who answer at random")
    seconds: float = Field(default=15.0, gt=0, description="median time for one comparison")
    careless_seconds: float = Field(default=2.0, gt=0, description="the same for the careless")
    seconds_sd: float = Field(default=0.5, ge=0, description="spread of log(seconds) between comparisons")
    skip: float = Field(default=0.02, ge=0, le=1, description="share of comparisons that a person skips")


class Simulation(Settings):
    """The recipe of `palate annotate simulate`."""

    people: int = Field(default=5, ge=1)
    overlap: int = Field(default=3, ge=1, description="different people for each comparison")
    seed: int = 0
    taste: Taste = Taste()
    features: dict[str, str] = Field(
        default={"shapes.prompt": "prompt", "shapes.motion": "motion", "shapes.visual": "visual"},
        description="scorer -> the feature that its scores are",
    )


def rao_kupper(d: ArrayLike, k: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of good, same and bad when the candidate is ahead by `d` logits and people tie with `k` >= 1.

    P(good) = 1 / (1 + k exp(-d)), P(bad) = 1 / (1 + k exp(d)), P(same) = the rest (Rao and Kupper 1967).
    """
    d, k = np.asarray(d, float), np.asarray(k, float)
    good, bad = 1 / (1 + k * np.exp(-d)), 1 / (1 + k * np.exp(d))
    return good, 1 - good - bad, bad


@dataclass(frozen=True)
class _People:
    """What was drawn for each person; arrays over people first."""

    weights: NDArray[np.float64]  # (people, axes, features)
    tie: NDArray[np.float64]  # (people,)
    left: NDArray[np.float64]  # (people,)
    careless: NDArray[np.bool_]  # (people,)


@dataclass(frozen=True)
class Population:
    """`people` annotators drawn from a taste. The same taste, number and seed give the same people everywhere."""

    taste: Taste
    people: int
    seed: int

    def __post_init__(self) -> None:
        if self.people < 1:
            raise DataError(f"a population of {self.people}", "ask for at least one simulated person")

    @cached_property
    def source(self) -> str:
        """What every judgement of this population gives as its source."""
        return f"simulated:{content_hash([self.taste.model_dump(mode='json'), self.people, self.seed])}"

    @cached_property
    def annotators(self) -> tuple[str, ...]:
        width = max(2, len(str(self.people)))
        return tuple(f"simulated-{number:0{width}}" for number in range(1, self.people + 1))

    def judge(self, comparison: Comparison, features: Features, annotator: str) -> Judgement:
        """One person's judgement: a function of this population, the annotator and the comparison, and nothing else.

        A failed sample is skipped with a reason, never a tie.

        Raises:
            DataError: the annotator is not of this population, or a sample lacks a feature that its taste weighs.
        """
        person = self._number.get(annotator)
        if person is None:
            raise DataError(f"{annotator} is not of this population", f"ask {self.annotators[0]} or another of its own")
        candidate, baseline = (self._seen(features, sample) for sample in (comparison.candidate, comparison.baseline))
        rng = _random(self.seed, annotator, comparison.id)
        careless = self._drawn.careless[person]
        median = self.taste.careless_seconds if careless else self.taste.seconds
        seconds = median * float(np.exp(self.taste.seconds_sd * rng.standard_normal()))

        verdicts: dict[Axis, Verdict] = {}
        skip = None
        if candidate is None or baseline is None:
            skip = "simulated: a video failed"
        elif rng.random() < self.taste.skip:
            skip = "simulated: passed over"
        else:
            good, same, _ = self._odds(candidate - baseline, comparison.candidate_side, slice(person, person + 1))
            draws = rng.random(len(self._axes))
            places = (draws >= good[0]).astype(int) + (draws >= good[0] + same[0])
            verdicts = {axis: _ANSWERS[place] for axis, place in zip(self._axes, places)}
        return Judgement(
            comparison=comparison.id,
            annotator=annotator,
            simulated=True,
            source=self.source,
            verdicts=verdicts,
            skip=skip,
            seconds=round(seconds, 1),
        )

    def shares(
        self, candidate: Mapping[str, float], baseline: Mapping[str, float], axis: Axis = OVERALL
    ) -> dict[Verdict, float]:
        """The truth: how this population's verdicts on one pair would fall if everybody judged it on both sides.

        The mean over these people, careless ones included. For the truth about a taste, of which an experiment's
        people are a sample, ask a population of many thousand.

        Raises:
            DataError: an axis outside the taste, or a feature that is missing.
        """
        if axis not in self._axes:
            raise DataError(f"no taste for {axis}", f"choose among {', '.join(self._axes)}")
        place = self._axes.index(axis)
        ahead = self._measured(candidate, "candidate") - self._measured(baseline, "baseline")
        both = [self._odds(ahead, side, slice(None)) for side in Side]
        means = np.mean([[column[:, place].mean() for column in odds] for odds in both], axis=0)
        return dict(zip(_ANSWERS, means.tolist()))

    def net(self, candidate: Mapping[str, float], baseline: Mapping[str, float], axis: Axis = OVERALL) -> float:
        """The true net preference: the share of good less the share of bad, see `shares`."""
        shares = self.shares(candidate, baseline, axis)
        return shares[Verdict.GOOD] - shares[Verdict.BAD]

    @cached_property
    def _number(self) -> dict[str, int]:
        return {annotator: number for number, annotator in enumerate(self.annotators)}

    @cached_property
    def _axes(self) -> list[Axis]:
        return sorted(self.taste.weights)

    @cached_property
    def _features(self) -> list[str]:
        return sorted({feature for weights in self.taste.weights.values() for feature in weights})

    @cached_property
    def _drawn(self) -> _People:
        taste, n = self.taste, self.people
        rng = _random(self.seed, "people")
        mean = np.array([[taste.weights[axis].get(feature, 0.0) for feature in self._features] for axis in self._axes])
        return _People(
            weights=mean * (1 + taste.weights_sd * rng.standard_normal((n, *mean.shape))),
            tie=1 + (taste.tie - 1) * np.exp(taste.tie_sd * rng.standard_normal(n)),
            left=taste.left + taste.left_sd * rng.standard_normal(n),
            careless=rng.permutation(n) < round(taste.careless * n),
        )

    def _odds(
        self, ahead: NDArray[np.float64], side: Side | None, who: slice
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Good, same and bad, each (people, axes), for features `ahead` (features,) of the baseline's."""
        drawn = self._drawn
        lean = {Side.LEFT: 1.0, Side.RIGHT: -1.0, None: 0.0}[side] * drawn.left[who, None]
        careful = rao_kupper(drawn.weights[who] @ ahead + lean, drawn.tie[who, None])
        good, same, bad = (np.where(drawn.careless[who, None], 1 / 3, column) for column in careful)
        return good, same, bad

    def _seen(self, features: Features, sample: str) -> NDArray[np.float64] | None:
        if sample not in features:
            raise DataError(f"nothing is measured of {sample}", "score every sample of the study first")
        measured = features[sample]
        return None if measured is None else self._measured(measured, sample)

    def _measured(self, measured: Mapping[str, float], sample: str) -> NDArray[np.float64]:
        if missing := [feature for feature in self._features if feature not in measured]:
            raise DataError(f"{sample} lacks {', '.join(missing)}", "score it for every feature that the taste weighs")
        return np.array([measured[feature] for feature in self._features], float)


def measured(scores: Iterable[Score], features: Mapping[str, str]) -> dict[str, dict[str, float] | None]:
    """Features of samples from their scores; None for a sample that some scorer could not score.

    Args:
        features: scorer -> feature name. Scores of other scorers are left aside.

    Raises:
        DataError: one scorer gave one sample two different numbers.
    """
    table: dict[str, dict[str, float] | None] = {}
    for score in scores:
        if score.scorer not in features:
            continue
        name = features[score.scorer]
        row = table.setdefault(score.sample, {})
        if score.value is None:
            table[score.sample] = None
        elif row is not None and row.setdefault(name, score.value) != score.value:
            raise DataError(
                f"{score.scorer} scored {score.sample} twice, differently", "keep the scores of one version"
            )
    return table


def _random(*purpose: object) -> np.random.Generator:
    """A counter-based generator of its own for each purpose, so that no order of calls can matter."""
    return np.random.Generator(np.random.Philox(key=int(content_hash(purpose)[:32], 16)))
