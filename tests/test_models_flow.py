"""The flow core against closed forms: a Gaussian world where the best prediction and the flow map are known."""

import math
from itertools import pairwise

import pytest
import torch

from models import flow

DEVIATION, MEAN = 0.5, 1.5


def gaussian_x0(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """E[x0 | x_t] for x0 ~ N(MEAN, DEVIATION^2): the posterior mean on the straight path."""
    t = t[:, None, None].to(x.dtype)
    variance = (1 - t) ** 2 * DEVIATION**2 + t**2
    return MEAN + (1 - t) * DEVIATION**2 / variance * (x - (1 - t) * MEAN)


def sampled(steps: int) -> torch.Tensor:
    noise = torch.randn(2000, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return flow.euler(gaussian_x0, noise, flow.grid(steps, 1.0))


def test_euler_converges_to_the_exact_flow_map_at_first_order() -> None:
    noise = torch.randn(2000, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = MEAN + DEVIATION * noise  # the flow map of a Gaussian is linear
    errors = [(sampled(steps) - exact).abs().mean().item() for steps in (20, 40, 80)]
    assert errors[2] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.15)


def test_velocity_error_is_the_error_of_the_velocities() -> None:
    g = torch.Generator().manual_seed(1)
    x0, guess, eps = (torch.randn(5, 7, 3, generator=g) for _ in range(3))
    t = torch.linspace(0.1, 1.0, 5)
    x_t = flow.noised(x0, eps, t)
    direct = (flow.velocity(guess, x_t, t) - (eps - x0)).square().mean(dim=(1, 2))
    torch.testing.assert_close(flow.velocity_error(guess, x0, t), direct, rtol=1e-4, atol=1e-5)


def test_times_fall_from_one_to_zero_and_shift_as_sd3_does() -> None:
    times = flow.grid(10, 3.0)
    assert times[0] == 1.0
    assert times[-1] == 0.0
    assert all(a > b for a, b in pairwise(times))
    assert times[5] == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))


def test_training_times_are_logit_normal_before_the_shift() -> None:
    t = flow.draw_times(50_000, 1.0, torch.Generator().manual_seed(2))
    logits = torch.logit(t)
    assert logits.mean().abs() < 0.02
    assert abs(logits.std().item() - 1) < 0.02
    assert math.isclose(flow.shifted(torch.tensor(0.5), 3.0).item(), 0.75, rel_tol=1e-6)


def test_guidance_of_one_is_the_conditional_and_two_goes_as_far_again() -> None:
    x, t = torch.zeros(1, 1, 1), torch.ones(1)
    conditional, unconditional = (lambda x, t: x + 3.0), (lambda x, t: x + 1.0)
    assert flow.guided(conditional, unconditional, 1.0)(x, t).item() == 3.0
    assert flow.guided(conditional, unconditional, 2.0)(x, t).item() == 5.0
