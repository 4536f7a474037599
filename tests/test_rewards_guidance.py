"""Reward-guided sampling against closed forms: a Gaussian, whose tilts and flows are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models import flow
from models.conditions import tokens
from models.generator import Generator, SamplerSettings
from models.guide import guided_by
from models.weights import SHIPPED
from palate.errors import ConfigError
from rewards.guidance import Guided
from rewards.shapes_encoder import ShapesEncoder

SPREAD, SLOPE = 0.5, 1.5
TIMES = flow.grid(400, 3.0)


def exact(x: Tensor, t: Tensor) -> Tensor:
    """E[x0 | x_t] of the flow to N(0, SPREAD^2)."""
    s = t[:, None, None]
    return (1 - s) * SPREAD**2 / ((1 - s) ** 2 * SPREAD**2 + s**2) * x


def linear(x: Tensor, t: Tensor) -> Tensor:
    """log E[exp(SLOPE sum x0) | x_t], less its constant: of a linear reward the mean is what x_t decides."""
    return SLOPE * exact(x, t).sum(dim=(1, 2))


def quadratic(x: Tensor, t: Tensor) -> Tensor:
    """log E[exp(-x0^2 / 2) | x_t] for x0 | x_t ~ N(m, c): -m^2 / (2 (1 + c)) less what does not depend on x."""
    s = t[:, None, None]
    left = SPREAD**2 * s**2 / ((1 - s) ** 2 * SPREAD**2 + s**2)
    return (-(exact(x, t) ** 2) / (2 * (1 + left))).sum(dim=(1, 2))


def drawn(predict: flow.Predict, count: int = 4000) -> Tensor:
    noise = torch.randn(count, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return flow.euler(predict, noise, TIMES).flatten()


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, -1.0])
def test_a_linear_reward_moves_the_mean_by_what_the_tilt_says(weight: float) -> None:
    found = drawn(guided_by(exact, linear, weight, latest=0.999))
    plain = drawn(exact)
    assert float((found - plain).mean()) == pytest.approx(weight * SLOPE * SPREAD**2, abs=0.01)
    assert float(found.std()) == pytest.approx(SPREAD, rel=0.04)


def test_a_quadratic_reward_narrows_the_distribution_as_the_tilt_says() -> None:
    found = drawn(guided_by(exact, quadratic, 1.0, latest=0.999))
    assert float(found.mean()) == pytest.approx(0, abs=0.03)
    assert float(found.std()) == pytest.approx((1 / SPREAD**2 + 1) ** -0.5, rel=0.04)  # precisions add


def test_the_slope_is_the_rewards_and_early_times_are_left_alone() -> None:
    x = torch.randn(3, 2, 2, dtype=torch.float64)
    t = torch.tensor([0.99, 0.5, 0.2])
    moved = guided_by(exact, lambda x, t: (x**2).sum(dim=(1, 2)), 2.0)(x, t) - exact(x, t)
    expected = 2.0 * np.array([0, 0.25 / 0.5, 0.04 / 0.8])[:, None, None] * 2 * x.numpy()
    np.testing.assert_allclose(moved.numpy(), expected, rtol=1e-5, atol=1e-12)
    assert not moved.requires_grad


def test_a_generator_is_led_where_the_reward_points_and_weight_zero_changes_nothing() -> None:
    generator = Generator.load(SHIPPED)
    torch.manual_seed(0)
    reward = ShapesEncoder.from_generator(SHIPPED, ("overall", "visual_quality"), ("visual_quality",), 1).eval()
    prompts, seeds = ["a red circle moves left, on a white background"] * 4, [1, 2, 3, 4]
    words = tokens(prompts)

    def scored(weights: dict[str, float]) -> Tensor:
        clips = torch.from_numpy(Guided(generator, reward, weights).clips(prompts, seeds, SamplerSettings()))
        with torch.no_grad():
            return reward.scores(generator.codec.encode(clips), torch.zeros(4), words)[:, 0]

    plain = generator.clips(prompts, seeds, SamplerSettings())
    assert np.array_equal(Guided(generator, reward, {"overall": 0.0}).clips(prompts, seeds, SamplerSettings()), plain)
    ladder = [scored({"overall": weight}).mean() for weight in (-20.0, 0.0, 20.0)]
    assert ladder[0] < ladder[1] < ladder[2]
    with pytest.raises(ConfigError, match="no axis motion_quality"):
        Guided(generator, reward, {"motion_quality": 1.0})
    other = ShapesEncoder(reward.body.shape, replace(reward.codec, mean=reward.codec.mean + 1), reward.axes, ())
    with pytest.raises(ConfigError, match="other latents"):
        Guided(generator, other, {"overall": 1.0})
