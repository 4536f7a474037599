"""OmniVideo's tasks in the shapes world: right answers pass, lazy and careless ones are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import omnivideo, shapes_omni
from benchmarks.runner import SCALE, Answering, Ask, answer, seed_of
from benchmarks.shapes_omni import KEPT, PROMPT, STRICT
from benchmarks.shapes_plans import TASKS, Plan, plan
from palate import prompt, shapes
from palate.config import Settings
from palate.errors import DataError
from palate.media import MediaFolder, shrink
from palate.records import Case, Score
from palate.shapes import FRAMES
from palate.store import Store

LOOKS = ("stylise", "weather", "effects")
EDITS = ("add", "remove", "replace", "attribute", "background", "new_angle", *LOOKS)


class NoSettings(Settings):
    pass


@dataclass
class Painter:
    """Answers with the truth, with the source as it is, or with the right scene somewhere else."""

    cases: dict[int, Case]  # by the seed of the first sample
    how: str
    checkpoint: str = "0" * 64

    def answers(self, asks: Sequence[Ask], sampler: Settings) -> list[NDArray[np.uint8]]:
        return [self._clip(ask, shapes_omni._of(self.cases[ask.seed])) for ask in asks]

    def _clip(self, ask: Ask, drawn: Plan) -> NDArray[np.uint8]:
        if self.how == "truth":
            return drawn.truth()
        if self.how == "copy":
            return next(clip for clip in ask.references.values() if len(clip) == FRAMES)
        rng = np.random.default_rng(ask.seed)
        return np.concatenate([shapes.render(shot.scene, rng) for shot in drawn.wanted])


def answered(tmp_path: Path, how: str, cases: list[Case]) -> dict[str, dict[str, list[float]]]:
    """scorer -> task -> values."""
    with Store(str(tmp_path / f"{how}.db"), media=tmp_path / "media") as store:
        attached = shapes_omni.attach(cases, store.media, SCALE)
        known = {seed_of(case, 0): case for case in attached}
        work = Answering(
            partial(Painter, known, how),
            how,
            "0" * 64,
            NoSettings(),
            shapes_omni.scores,
            tmp_path / "media",
            shapes.FPS,
        )
        samples = {sample.id: sample.case for sample in answer(store, attached, 1, [work])[0]}
        tasks = {case.id: case.tags["task"] for case in attached}
        found: dict[str, dict[str, list[float]]] = {}
        for score in store.select(Score):
            assert score.value is not None, score.failure
            found.setdefault(score.scorer, {}).setdefault(tasks[samples[score.sample]], []).append(score.value)
    return found


def test_every_task_of_the_suite_is_here() -> None:
    assert {*TASKS} == {*omnivideo.TASKS}
    with pytest.raises(DataError, match="no task 'sing' in the shapes world: choose one of text, image_reference"):
        plan("sing", 0)


def test_cases_are_the_same_again_in_the_prompt_language_and_held_out() -> None:
    cases = shapes_omni.cases("heldout", 5 * len(TASKS))
    assert [case.id for case in cases] == [case.id for case in shapes_omni.cases("heldout", 5 * len(TASKS))]
    assert not {case.id for case in cases} & {case.id for case in shapes_omni.cases("heldout", 20, seed=1)}
    for case in cases:
        asked = prompt.parse(case.prompt)
        assert {str(handle) for handle in asked.handles} == case.conditions.keys()
        drawn = plan(case.tags["task"], int(case.tags["number"]))
        assert len(asked.shots or [0]) == len(drawn.wanted)
        assert {shapes.split_of(shot.scene) for shot in drawn.wanted} == {"heldout"}


def test_right_answers_pass_every_check_of_every_task(tmp_path: Path) -> None:
    found = answered(tmp_path, "truth", shapes_omni.cases("heldout", 4 * len(TASKS)))
    for scorer in (STRICT, PROMPT, KEPT):
        for task, values in found[scorer].items():
            assert min(values) == 1.0, (scorer, task)
    assert found[STRICT].keys() == {*TASKS}
    assert found[KEPT].keys() == {
        *EDITS,
        "next_shot",
        "previous_shot",
        "first_frame",
        "first_last_frame",
        "visual_prompt",
        "camera_transfer",
    }


def test_a_copy_of_the_source_does_nothing_that_was_asked(tmp_path: Path) -> None:
    copied = ("add", "background", "new_angle", *LOOKS)
    cases = [case for case in shapes_omni.cases("heldout", 6 * len(TASKS)) if case.tags["task"] in copied]
    found = answered(tmp_path, "copy", cases)
    assert found[STRICT] == {task: [0.0] * 6 for task in copied}
    assert found[KEPT]["background"] == [1.0] * 6
    assert all(0 < value < 1 for value in found[PROMPT]["background"])
    assert found[KEPT]["new_angle"] == [0.0] * 6


@pytest.mark.parametrize("task", LOOKS)
def test_a_look_is_told_from_its_absence_and_from_the_others_after_the_codec(task: str, tmp_path: Path) -> None:
    media = MediaFolder(tmp_path)
    looks = [plan(name, 0).wanted[0].look for name in LOOKS]
    for number in range(20):
        right = plan(task, number).wanted[0]
        assert right.look
        plain = replace(right, look=None).clip()
        for look, clip in [(None, plain), *((look, look.put_on(plain)) for look in looks if look)]:
            stored = shrink(media.video(media.add_video(clip, shapes.FPS, SCALE)).frames, SCALE)
            ground = shapes.BACKGROUNDS[right.scene.background]
            assert right.look.is_on(stored, ground) == (look is right.look), (look, number)


def test_the_right_scene_in_another_place_is_no_edit(tmp_path: Path) -> None:
    cases = [case for case in shapes_omni.cases("heldout", 12 * len(TASKS)) if case.tags["task"] in ("replace", "text")]
    found = answered(tmp_path, "elsewhere", cases)
    assert found[PROMPT] == {"replace": [1.0] * 12, "text": [1.0] * 12}
    assert found[STRICT]["text"] == [1.0] * 12
    assert np.mean(found[STRICT]["replace"]) < 0.5


def test_what_is_no_answer_is_a_failed_score(tmp_path: Path) -> None:
    case = next(one for one in shapes_omni.cases("heldout", len(TASKS)) if one.tags["task"] == "multi_shot")
    media = MediaFolder(tmp_path)
    short = media.video(media.add_video(np.zeros((FRAMES, shapes.SIZE, shapes.SIZE, 3), np.uint8), 8.0, SCALE))
    work = Answering(Painter, "x", "0" * 64, NoSettings(), shapes_omni.scores, tmp_path, 8.0)
    rows = shapes_omni.scores(case, work.sample(case, 1), short)
    assert {row.failure and row.failure.startswith("8 frames:") for row in rows} == {True}
    other = case.model_copy(update={"prompt": "something else"})
    assert "asks something else" in (shapes_omni.scores(other, work.sample(other, 1), short)[0].failure or "")


def test_references_are_pictures_and_clips_that_say_what_the_answer_needs(tmp_path: Path) -> None:
    media = MediaFolder(tmp_path)
    for task, handle, frames in (("first_frame", "@Image_1", 1), ("add", "@Video_1", FRAMES)):
        case = next(case for case in shapes_omni.cases("heldout", len(TASKS)) if case.tags["task"] == task)
        (attached,) = shapes_omni.attach([case], media, SCALE)
        name = attached.conditions[handle]
        assert name.endswith("png" if frames == 1 else "mp4")
        stored = media.video(name).frames[:, ::SCALE, ::SCALE].astype(int)
        drawn = shapes_omni._of(case).references[handle].astype(int)
        assert stored.shape == drawn.shape
        assert np.abs(stored - drawn).mean() < 6
        if frames == 1:
            assert (stored == drawn).all()
