"""What passes between the stages: frozen records, named by the hash of their content.

Two records with the same content have the same id wherever and whenever they are made, so writing one
twice changes nothing. Times of writing are the store's business and no part of an id.
"""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
RecordId = Annotated[str, StringConstraints(pattern=r"^[a-z]+-[0-9a-f]{24}$")]
MediaName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\.(mp4|wav|png)$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Axis = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Scalar = bool | int | float | str

OVERALL: Axis = "overall"
UNKNOWN_ANNOTATOR = "unknown"  # the annotator of a vote whose source does not say who gave it: not one person


class Verdict(StrEnum):
    """One person's answer on one axis, from the candidate's side."""

    GOOD = "good"
    SAME = "same"
    BAD = "bad"
    BOTH_BAD = "both_bad"  # neither is acceptable: counts as `same` in a GSB figure, but is never merged in the record

    @property
    def counted(self) -> "Verdict":
        """The good / same / bad column this verdict is counted in."""
        return Verdict.SAME if self is Verdict.BOTH_BAD else self

    @property
    def swapped(self) -> "Verdict":
        """The same answer seen from the baseline's side."""
        return {Verdict.GOOD: Verdict.BAD, Verdict.BAD: Verdict.GOOD}.get(self, self)


class Side(StrEnum):
    LEFT = "left"
    RIGHT = "right"

    @property
    def other(self) -> "Side":
        return Side.RIGHT if self is Side.LEFT else Side.LEFT


def content_hash(content: object) -> str:
    """SHA-256, as 64 hex digits, of the canonical JSON of `content` (sorted keys, no spaces, no NaN)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Record(BaseModel):
    """A frozen row of the record. `id` is its kind and the hash of everything it says."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: ClassVar[str]

    @cached_property
    def id(self) -> str:
        return f"{self.kind}-{content_hash(self.model_dump(mode='json'))[:24]}"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Another record, checked and named anew: pydantic's own copy would keep the id of the old content."""
        return type(self).model_validate({**self.model_dump(), **(update or {})})


class Estimate(BaseModel):
    """A number that may travel: value, interval and the sizes of the samples behind it.

    `low` and `high` are None where the data cannot give an interval, and `note` then says why.
    `n` counts observations (verdicts, samples); `clusters` counts the independent units behind them,
    by name, such as `{"prompts": 64, "annotators": 5}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float | None
    low: float | None
    high: float | None
    n: int = Field(ge=0)
    level: float = 0.95
    method: str
    clusters: dict[str, int] = {}
    note: str = ""

    @model_validator(mode="after")
    def _says_what_it_does_not_know(self) -> Self:
        if (self.value is None or self.low is None or self.high is None) and not self.note:
            raise ValueError("an estimate without a value or an interval must say why in `note`")
        return self


class Case(Record):
    """What we ask of a generator: a prompt, its conditions, and how an answer may be checked."""

    kind: ClassVar[str] = "case"

    suite: Name
    prompt: Prompt
    split: Literal["train", "heldout"] = "heldout"
    conditions: dict[str, str] = {}  # condition handle -> media name or description
    tags: dict[str, str] = {}  # slice -> value, such as {"subject": "animal"}
    axes: tuple[Axis, ...] = (OVERALL,)


class Sample(Record):
    """One generated video for one case. `media` is None when only votes about it are known."""

    kind: ClassVar[str] = "sample"

    case: RecordId
    system: Name
    seed: int | None = None
    media: MediaName | None = None
    checkpoint: Sha256 | None = None
    sampler: dict[str, Scalar] = {}
    failure: str | None = None  # why there is no video, where generation failed


class Comparison(Record):
    """Two samples of one case, shown blind. Only this record knows which side is the candidate."""

    kind: ClassVar[str] = "comparison"

    study: Name
    case: RecordId
    candidate: RecordId
    baseline: RecordId
    candidate_side: Side | None  # None: an imported vote whose source does not say
    role: Literal["normal", "gold", "repeat"] = "normal"

    @model_validator(mode="after")
    def _two_samples(self) -> Self:
        if self.candidate == self.baseline:
            raise ValueError("a comparison needs two different samples")
        return self


class Judgement(Record):
    """One person's verdicts on one comparison, or the reason why there are none."""

    kind: ClassVar[str] = "judgement"

    comparison: RecordId
    annotator: Name
    simulated: bool
    source: Name  # where it came from: a tool and task, or a file's hash and line
    verdicts: dict[Axis, Verdict] = {}
    skip: str | None = None
    reasons: str = ""
    seconds: float | None = Field(default=None, ge=0)
    supersedes: RecordId | None = None

    @model_validator(mode="after")
    def _verdicts_or_a_reason(self) -> Self:
        if bool(self.verdicts) == (self.skip is not None):
            raise ValueError("a judgement has verdicts or a reason for skipping, and not both")
        if self.skip == "":
            raise ValueError("a skip needs a reason")
        return self


class Preference(Record):
    """Judgements of one comparison and axis, aggregated under a stated policy. `weight` is in (0, 1]."""

    kind: ClassVar[str] = "preference"

    study: Name
    case: RecordId
    axis: Axis
    winner: RecordId
    loser: RecordId
    weight: float = Field(gt=0, le=1)
    policy: Name
    judgements: tuple[RecordId, ...] = Field(min_length=1)
    simulated: bool


class Score(Record):
    """A machine's number for a sample, or the reason why there is none."""

    kind: ClassVar[str] = "score"

    sample: RecordId
    scorer: Name
    value: float | None = None
    unit: str = ""
    failure: str | None = None
    detail: dict[str, Scalar] = {}

    @model_validator(mode="after")
    def _a_number_or_a_reason(self) -> Self:
        if (self.value is None) == (self.failure is None):
            raise ValueError("a score has a value or a failure, and not both")
        return self


class Run(Record):
    """One piece of work: what it was told, what it started from, what it made."""

    kind: ClassVar[str] = "run"

    task: Name  # such as "model pretrain"
    recipe: dict[str, JsonValue]  # the resolved configuration
    code: Name  # version and commit
    seed: int
    parents: tuple[str, ...] = ()  # checkpoint hashes and record ids it read
    outputs: tuple[str, ...] = ()  # checkpoint hashes it wrote


class Curve(Record):
    """What a run reported of one metric while it learned."""

    kind: ClassVar[str] = "curve"

    run: RecordId
    metric: Name  # "loss", or as the objective calls it
    steps: tuple[int, ...] = Field(min_length=1)
    readings: tuple[float, ...]

    @model_validator(mode="after")
    def _a_value_for_each_step(self) -> Self:
        if len(self.steps) != len(self.readings):
            raise ValueError("a curve needs one reading for each step")
        if any(later <= earlier for earlier, later in pairwise(self.steps)):
            raise ValueError("the steps of a curve must rise")
        return self


class Glimpse(Record):
    """What a run drew while it learned. Those of one place began from the same prompt and the same noise at each step,
    where the run kept to that."""

    kind: ClassVar[str] = "glimpse"

    run: RecordId
    step: int = Field(ge=0)
    place: int = Field(ge=0)
    prompt: Prompt
    media: MediaName


class Figure(Record):
    """A number somebody was shown, and exactly which rows it was computed from."""

    kind: ClassVar[str] = "figure"

    name: Name  # such as "gsb.overall.ratio"
    estimate: Estimate
    selection: dict[str, Scalar]  # the query, by column: study, axis, candidate, baseline, aggregation, scorer, system
    evidence: Literal["judgements", "scores", "runs"]
    rows: int = Field(ge=0)
    digest: Sha256  # of the ids of those rows (palate/digest.py), so that a later change is noticed
    simulated: bool


RECORDS: dict[str, type[Record]] = {
    record.kind: record
    for record in (Case, Sample, Comparison, Judgement, Preference, Score, Run, Curve, Glimpse, Figure)
}
