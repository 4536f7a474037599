"""The tasks of OmniVideo in the shapes world, where a program makes the references and checks the answers.

The verifier draws a case again from its `task` and `number`, so nothing that it knows lies in the case.
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.omnivideo import axes
from benchmarks.shapes_plans import TASKS, Plan, plan
from palate import shapes
from palate.errors import DataError
from palate.media import MediaFolder, Video, shrink
from palate.records import Case, Sample, Scalar, Score
from palate.shapes import FRAMES, Frames, Points, Thing

SUITE = "shapes-omni"
STRICT = "shapes_omni.strict"  # 1 when everything asked for is there and everything else is as it was
PROMPT = "shapes_omni.prompt"  # share of the checks of what is asked for that hold
KEPT = "shapes_omni.kept"  # 1 when what the references fix is where they have it; of cases that fix something
NEAR = 1.5  # pixels
DEFAULT = 220


def cases(split: str, count: int | None, seed: int = 0) -> list[Case]:
    """`count` cases, each task in turn, without their references: see `attach`."""
    if split != "heldout":
        raise DataError(f"no split {split!r} in {SUITE}", "use heldout")
    turns = (divmod(at, len(TASKS)) for at in range(count or DEFAULT))
    wanted = [(TASKS[place], 10_000 * seed + turn) for turn, place in turns]
    return [_case(task, number) for task, number in wanted]


def _case(task: str, number: int) -> Case:
    drawn = plan(task, number)
    return Case(
        suite=SUITE,
        prompt=drawn.prompt,
        conditions={handle: f"the reference {handle} of {task} {number}" for handle in drawn.references},
        tags={"task": task, "number": str(number)},
        axes=axes(task),
    )


def attach(found: list[Case], media: MediaFolder, scale: int) -> list[Case]:
    """The cases with their references drawn into the media folder, each pixel `scale` x `scale`."""

    def kept(frames: Frames) -> str:
        return media.add_picture(frames[0], scale) if len(frames) == 1 else media.add_video(frames, shapes.FPS, scale)

    return [
        case.model_copy(
            update={"conditions": {handle: kept(frames) for handle, frames in _of(case).references.items()}}
        )
        for case in found
    ]


def scores(case: Case, sample: Sample, video: Video) -> list[Score]:
    """What a program sees in the answer, against the draw behind the case."""
    scorers = (STRICT, PROMPT, KEPT)
    try:
        drawn = _of(case)
        frames = shrink(video.frames, max(video.frames.shape[1] // shapes.SIZE, 1))
        if len(frames) != FRAMES * len(drawn.wanted):
            raise DataError(f"{len(frames)} frames", f"{len(drawn.wanted)} shots of {FRAMES} frames were asked for")
        shown = list(zip(np.split(frames, len(drawn.wanted)), drawn.wanted))
        seen = [shapes.observe(shot.look.taken_off(part) if shot.look else part) for part, shot in shown]
    except DataError as error:
        return [Score(sample=sample.id, scorer=scorer, failure=str(error)) for scorer in scorers]
    answers: dict[str, Scalar] = {
        shot.look.name: shot.look.is_on(part, shapes.BACKGROUNDS[shot.scene.background])
        for part, shot in shown
        if shot.look
    }
    kept: dict[str, Scalar] = {}
    for number, (shot, found) in enumerate(zip(drawn.wanted, seen), 1):
        which = f"shot_{number}_" if len(seen) > 1 else ""
        checks = shapes.check(found, shot.scene).answers
        answers |= {which + name.replace(" ", "_"): holds for name, holds in checks.items()}
        for place, thing in enumerate(shot.things):
            if shot.fixed[place].any():
                kept[f"{which}kept_{place + 1}"] = _is_there(found, thing, shot.centres[place], shot.fixed[place])
    strict = all([*answers.values(), *kept.values()])
    share = sum(map(bool, answers.values())) / len(answers)
    rows = [
        Score(sample=sample.id, scorer=STRICT, value=float(strict), unit="share", detail={**answers, **kept}),
        Score(sample=sample.id, scorer=PROMPT, value=share, unit="share"),
    ]
    if kept:
        rows.append(Score(sample=sample.id, scorer=KEPT, value=float(all(kept.values())), unit="share"))
    return rows


def _of(case: Case) -> Plan:
    drawn = plan(case.tags["task"], int(case.tags["number"]))
    if drawn.prompt != case.prompt:
        raise DataError("this version of the suite asks something else here", "answer its cases again")
    return drawn


def _is_there(found: shapes.Observation, thing: Thing, centres: Points, fixed: NDArray[np.bool_]) -> bool:
    return any(
        one.colour == thing.colour and bool((np.abs(one.path - centres)[fixed] <= NEAR).all()) for one in found.objects
    )
