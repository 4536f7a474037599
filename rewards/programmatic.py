"""Scores that a program reads from pixels: the checks and qualities of the shapes world."""

from collections.abc import Sequence

from palate import shapes
from palate.errors import DataError
from palate.media import Frames, Video, shrink
from palate.records import Case, Sample, Scalar, Score
from rewards.reward import Answer, Scored, Unit

STRICT = "shapes.strict"  # 1 when every check of the caption holds, else 0
PROMPT = "shapes.prompt"  # share of the caption's checks that hold
MOTION = "shapes.motion"  # how even the movement is, 0..1
VISUAL = "shapes.visual"  # how clean the picture is, 0..1
SCORERS = (STRICT, PROMPT, MOTION, VISUAL)


def shapes_scores(case: Case, sample: Sample, video: Video) -> list[Score]:
    """The four scores of one sample, read from the file that people see. A video of another size is a failure."""
    try:
        seen, checks = _read(case.prompt, video.frames)
    except DataError as error:
        return [Score(sample=sample.id, scorer=scorer, failure=str(error)) for scorer in SCORERS]
    answers: dict[str, Scalar] = {name.replace(" ", "_"): ok for name, ok in checks.answers.items()}
    return [
        Score(sample=sample.id, scorer=STRICT, value=float(checks.strict), unit="share", detail=answers),
        Score(sample=sample.id, scorer=PROMPT, value=checks.fraction, unit="share"),
        Score(sample=sample.id, scorer=MOTION, value=seen.motion, unit="share"),
        Score(sample=sample.id, scorer=VISUAL, value=seen.visual, unit="share"),
    ]


class ShapesReward:
    """Satisfies `Reward`: the same four as columns. A caption or a video of another world has the reason."""

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        rows = [self._one(one) for one in answers]
        return tuple(Scored.of(name, Unit.SHARE, [row[at] for row in rows]) for at, name in enumerate(SCORERS))

    @staticmethod
    def _one(answer: Answer) -> tuple[float | str, ...]:
        try:
            seen, checks = _read(answer.prompt, answer.frames)
        except DataError as error:
            return (str(error),) * len(SCORERS)
        return float(checks.strict), checks.fraction, seen.motion, seen.visual


def _read(caption: str, frames: Frames) -> tuple[shapes.Observation, shapes.Checks]:
    scene = shapes.scene_of(caption)
    seen = shapes.observe(shrink(frames, max(frames.shape[2] // shapes.SIZE, 1)))
    return seen, shapes.check(seen, scene)
