"""Texture: each of its numbers against its definition, counted pixel by pixel, and what it tells apart."""

import numpy as np
import torch

from palate import shapes
from rewards.texture import LIMITS, NUMBERS, texture


def numbers(clips: np.ndarray) -> np.ndarray:
    """(clips, differences, limits)"""
    return texture(torch.from_numpy(clips).float()).numpy().reshape(len(clips), 4, len(LIMITS))


def drawn(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return shapes.render(shapes.draw_scene(rng, "train", ("single",)), rng)


def test_a_flat_clip_differs_in_nothing_and_a_step_of_known_height_by_its_share_of_each_limit() -> None:
    flat = np.full((1, 4, 5, 5, 3), 90.0)
    assert np.array_equal(numbers(flat), np.zeros((1, 4, len(LIMITS))))
    one = flat.copy()
    one[0, :, 2, 2] += 12  # one pixel of 25, in all frames: 12 from the ground, 48 and four times 12 in the Laplacian
    ground, laplacian, change, bend = numbers(one)[0]
    limits = np.array(LIMITS)
    np.testing.assert_allclose(ground, np.minimum(12 / limits, 1) / 25, rtol=1e-5)
    np.testing.assert_allclose(laplacian, (np.minimum(48 / limits, 1) + 4 * np.minimum(12 / limits, 1)) / 9, rtol=1e-5)
    assert not change.any()
    assert not bend.any()
    late = flat.copy()
    late[0, 2:] += 12  # all pixels, between the second frame and the third of four
    np.testing.assert_allclose(numbers(late)[0, 2], np.minimum(12 / limits, 1) / 3, rtol=1e-5)
    np.testing.assert_allclose(numbers(late)[0, 3], np.minimum(12 / limits, 1), rtol=1e-5)


def test_a_haze_and_a_torn_edge_of_one_mean_are_told_apart() -> None:
    clip = drawn().astype(float)
    rng = np.random.default_rng(1)
    haze = clip + 4 * rng.choice([-1, 1], clip.shape[:3])[..., None]
    torn = clip + 80 * (rng.random(clip.shape[:3]) < 0.05)[..., None] * rng.choice([-1, 1], clip.shape[:3])[..., None]
    assert abs(np.abs(haze - clip).mean() - np.abs(torn - clip).mean()) < 0.4
    small, large = (numbers(one[None])[0, 1] for one in (haze, torn))
    assert small[0] > large[0]  # most pixels differ a little
    assert small[-1] < large[-1]  # few differ much


def test_its_slope_is_that_of_its_values() -> None:
    clip = torch.from_numpy(drawn(2)[None, :3, 8:16, 8:16]).double() + torch.rand(1, 3, 8, 8, 3, dtype=torch.float64)
    weight = torch.randn(NUMBERS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    clip.requires_grad_()
    (slope,) = torch.autograd.grad(texture(clip) @ weight, clip)
    assert slope.abs().max() > 0
    with torch.no_grad():
        way = torch.randn(clip.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        up, down = (float(texture(clip + sign * 1e-6 * way) @ weight) for sign in (1, -1))
    np.testing.assert_allclose(float((slope * way).sum()), (up - down) / 2e-6, rtol=1e-3)
