"""The shapes world: captions, pixels and the observer, against each other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import shapes
from palate.errors import DataError


def scenes(count: int, seed: int, split: str = "train") -> list[shapes.Scene]:
    rng = np.random.default_rng(seed)
    return [shapes.draw_scene(rng, split) for _ in range(count)]


def one_word_changed(scene: shapes.Scene, rng: np.random.Generator) -> list[shapes.Scene]:
    """Every scene that differs in one attribute of the first thing, the relation, the background or the count."""
    first = scene.things[0]
    taken = {thing.colour for thing in scene.things}
    changes: list[shapes.Scene] = []
    for thing in (
        *(replace(first, colour=colour) for colour in shapes.COLOURS if colour not in taken),
        *(replace(first, shape=shape) for shape in shapes.SHAPES if shape != first.shape),
        *(replace(first, motions=(motion,)) for motion in shapes.MOTIONS if (motion,) != first.motions),
        *([replace(first, motions=first.motions[::-1])] if len(first.motions) > 1 else []),
    ):
        changes.append(replace(scene, things=(thing, *scene.things[1:])))
    changes += [replace(scene, background=b) for b in shapes.BACKGROUNDS if b != scene.background]
    if scene.relation:
        changes += [replace(scene, relation=r) for r in shapes.RELATIONS if r != scene.relation]
    elif len(first.motions) == 1:
        changes += [replace(scene, count=c) for c in (1, 2, 3) if c != scene.count]
    return changes


def test_truth_passes_and_every_single_change_of_the_caption_fails() -> None:
    rng = np.random.default_rng(1)
    truth, changed = [], []
    for scene in scenes(400, 0) + scenes(200, 0, "heldout"):
        seen = shapes.observe(shapes.render(scene, rng))
        truth.append(shapes.check(seen, scene).strict)
        changed += [shapes.check(seen, other).strict for other in one_word_changed(scene, rng)]
    assert np.mean(truth) >= 0.99
    assert len(changed) > 5000
    assert np.mean(changed) <= 0.001


def test_verifier_survives_what_a_video_file_does_to_pixels() -> None:
    rng = np.random.default_rng(2)
    kept = []
    for scene in scenes(200, 3):
        noisy = shapes.render(scene, rng) + rng.normal(0, 6, (shapes.FRAMES, shapes.SIZE, shapes.SIZE, 3))
        seen = shapes.observe(np.clip(noisy, 0, 255).astype(np.uint8))
        kept.append(shapes.check(seen, scene).strict)
    assert np.mean(kept) >= 0.99


@given(seed=st.integers(0, 2**32), split=st.sampled_from(["train", "heldout"]))
@settings(max_examples=200, deadline=None)
def test_captions_parse_back_to_their_scene(seed: int, split: str) -> None:
    scene = shapes.draw_scene(np.random.default_rng(seed), split)
    assert shapes.parse(str(scene)) == scene
    assert shapes.split_of(scene) == split
    assert shapes.parse(scene.meaning).meaning == scene.meaning


def test_a_pair_told_from_its_other_side_means_the_same_and_stays_in_its_split() -> None:
    pairs = [scene for scene in scenes(300, 4) if scene.relation]
    for scene in pairs:
        told = shapes.Scene(scene.things[::-1], scene.background, 1, shapes.OPPOSITE[scene.relation])
        assert told.meaning == scene.meaning
        assert shapes.split_of(told) == shapes.split_of(scene) == "train"
    assert len(pairs) > 50


def test_splits_share_no_meaning_and_one_in_five_is_held_out() -> None:
    train = {scene.meaning for scene in scenes(4000, 5)}
    held = {scene.meaning for scene in scenes(4000, 5, "heldout")}
    assert not train & held
    things = [shapes.Thing(c, s, (m,)) for c in shapes.COLOURS for s in shapes.SHAPES for m in shapes.MOTIONS]
    every = [
        shapes.Scene((thing,), ground, count)
        for thing in things
        for ground in shapes.BACKGROUNDS
        for count in (1, 2, 3)
    ]
    assert 0.16 < np.mean([shapes.split_of(scene) == "heldout" for scene in every]) < 0.24


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        "a pink circle moves left, on a white background",
        "two red circle move left, on a white background",
        "a red circle moves left, on a white background; ignore that",
        "a red circle moves sideways, on a white background",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="not a caption"):
        shapes.parse(text)


def test_objects_stay_inside_apart_and_in_relation() -> None:
    rng = np.random.default_rng(7)
    for scene in scenes(200, 8):
        centres = shapes.place(scene, rng)
        assert centres.min() >= shapes.MARGIN
        assert centres.max() <= shapes.SIZE - shapes.MARGIN
        for i in range(len(centres)):
            for j in range(i):
                assert np.abs(centres[i] - centres[j]).max(axis=1).min() >= shapes.APART


def test_shapes_have_their_centre_of_mass_at_the_origin() -> None:
    y, x = np.mgrid[-8:8:0.02, -8:8:0.02]
    for shape in shapes.SHAPES:
        alpha = shapes.coverage(shape, x, y)
        assert abs(np.average(x, weights=alpha)) < 0.02
        assert abs(np.average(y, weights=alpha)) < 0.12


def test_an_empty_clip_has_no_objects_and_bad_shapes_are_refused() -> None:
    blank = np.full((shapes.FRAMES, shapes.SIZE, shapes.SIZE, 3), shapes.BACKGROUNDS["grey"], np.uint8)
    seen = shapes.observe(blank)
    assert seen.objects == ()
    assert seen.background == "grey"
    assert seen.motion == 0.0
    assert not shapes.check(seen, scenes(1, 9)[0]).strict
    with pytest.raises(DataError, match="shape"):
        shapes.observe(blank[:3])


def test_qualities_fall_when_motion_jerks_and_pictures_blur() -> None:
    rng = np.random.default_rng(10)
    scene = shapes.parse("a red circle moves left, on a white background")
    centres = shapes.place(scene, rng)
    clean = shapes.observe(shapes.paint("white", [("red", "circle")], centres))
    jerky = shapes.observe(shapes.paint("white", [("red", "circle")], centres + rng.normal(0, 0.5, centres.shape)))
    frames = shapes.paint("white", [("red", "circle")], centres).astype(float)
    blurred = shapes.observe(((frames + np.roll(frames, 1, 1) + np.roll(frames, 1, 2)) / 3).astype(np.uint8))
    assert clean.motion > 0.7 > jerky.motion
    assert clean.visual > 0.85 > blurred.visual
