"""Measures of pixels against numbers worked out by hand."""

import numpy as np
import pytest

from palate import shapes
from palate.config import load
from palate.errors import ConfigError
from rewards.configured import RewardsRecipe
from rewards.pixels import (
    PixelReward,
    colourfulness,
    compressibility,
    exposure,
    flicker,
    jerk,
    motion,
    sharpness,
)
from rewards.programmatic import SCORERS
from rewards.reward import Answer

RNG = np.random.default_rng(0)


def greys(*levels: int) -> np.ndarray:
    return np.stack([np.full((6, 6, 3), level, np.uint8) for level in levels])


def test_motion_jerk_and_flicker() -> None:
    assert motion(greys(10, 10, 10)) == 0
    assert motion(greys(10, 14, 8)) == pytest.approx(5)
    assert jerk(greys(10, 14, 18, 22)) == pytest.approx(0)  # an even change is no jerk
    assert jerk(greys(10, 14, 10)) == pytest.approx(8)
    assert flicker(greys(10, 14, 10)) == pytest.approx(8)
    bar = np.zeros((4, 6, 6, 3), np.uint8)
    for t in range(4):
        bar[t, :, t] = 200
    assert motion(bar) > 10
    assert jerk(bar) > 10
    assert flicker(bar) == pytest.approx(0)  # it moves, and the light stays


def test_sharpness_exposure_and_colour() -> None:
    checked = np.indices((6, 6)).sum(0) % 2 * 100
    frames = np.repeat(checked[None, ..., None], 3, axis=3).astype(np.uint8)
    assert sharpness(frames) == pytest.approx(400)
    assert sharpness(greys(50)) == 0
    assert exposure(greys(0, 100, 255, 200)) == 0.5
    assert colourfulness(greys(90)) == pytest.approx(0)
    red = np.zeros((1, 6, 6, 3), np.uint8)
    red[..., 0] = 200
    assert colourfulness(red) == pytest.approx(0.3 * np.hypot(200, 100))


def test_noise_costs_its_bits_and_a_still_picture_hardly_any() -> None:
    noise = RNG.integers(0, 256, (8, 30, 30, 3), dtype=np.uint8)
    assert compressibility(noise) == pytest.approx(24, rel=0.01)
    assert compressibility(noise[:1].repeat(8, axis=0)) < 24 / 7


def test_a_measure_that_needs_more_frames_says_so() -> None:
    columns = {
        one.name: one for one in PixelReward().score([Answer("p", greys(10, 20), 8.0), Answer("p", greys(1), 8.0)])
    }
    assert columns["pixels.motion"].reasons == ("", "it needs 2 frames")
    assert columns["pixels.flicker"].reasons == ("it needs 3 frames",) * 2
    assert columns["pixels.exposure"].known.all()
    with pytest.raises(ConfigError, match="beauty"):
        PixelReward(("beauty",))


def test_the_shapes_worlds_checks_are_a_line_of_a_recipe() -> None:
    rng = np.random.default_rng(0)
    scene, other = (shapes.draw_scene(rng, "train", ("single",)) for _ in range(2))
    clip = shapes.render(scene, rng)
    asked = [Answer(str(scene), clip.repeat(2, axis=1).repeat(2, axis=2), shapes.FPS), Answer(str(other), clip, 8.0)]
    asked += [Answer("a cat", clip, 8.0), Answer(str(scene), clip[:, :10, :10], 8.0)]
    (reward,) = load(RewardsRecipe, None, ("rewards=[{kind='shapes'}]",)).build()
    strict, prompt, motion_, visual = reward.score(asked)
    assert [column.name for column in (strict, prompt, motion_, visual)] == list(SCORERS)
    checks = shapes.check(shapes.observe(clip), other)
    assert strict.value[:2].tolist() == [1.0, 0.0]
    assert prompt.value[:2].tolist() == [1.0, checks.fraction]
    assert visual.value[0] > 0.9
    assert all(strict.reasons[2:])
    assert np.isnan(motion_.value[2:]).all()
