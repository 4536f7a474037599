"""Scores that a program reads from pixels: the checks and qualities of the shapes world."""

from palate import shapes
from palate.errors import DataError
from palate.media import Video, shrink
from palate.records import Case, Sample, Scalar, Score

STRICT = "shapes.strict"  # 1 when every check of the caption holds, else 0
PROMPT = "shapes.prompt"  # share of the caption's checks that hold
MOTION = "shapes.motion"  # how even the movement is, 0..1
VISUAL = "shapes.visual"  # how clean the picture is, 0..1
SCORERS = (STRICT, PROMPT, MOTION, VISUAL)


def shapes_scores(case: Case, sample: Sample, video: Video) -> list[Score]:
    """The four scores of one sample, read from the file that people see. A video of another size is a failure."""
    try:
        scene = shapes.scene_of(case.prompt)
        seen = shapes.observe(shrink(video.frames, video.frames.shape[1] // shapes.SIZE))
    except DataError as error:
        return [Score(sample=sample.id, scorer=scorer, failure=str(error)) for scorer in SCORERS]
    checks = shapes.check(seen, scene)
    answers: dict[str, Scalar] = {name.replace(" ", "_"): ok for name, ok in checks.answers.items()}
    return [
        Score(sample=sample.id, scorer=STRICT, value=float(checks.strict), unit="share", detail=answers),
        Score(sample=sample.id, scorer=PROMPT, value=checks.fraction, unit="share"),
        Score(sample=sample.id, scorer=MOTION, value=seen.motion, unit="share"),
        Score(sample=sample.id, scorer=VISUAL, value=seen.visual, unit="share"),
    ]
