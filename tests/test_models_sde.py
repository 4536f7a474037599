"""Random steps against closed forms: the Gaussian flow, where the moments of every step are known."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from models import flow, sde

MEAN, DEVIATION = 1.0, 0.5
KINDS: tuple[sde.Kind, ...] = ("flow", "dance", "cps")
LEVEL = {"flow": 0.7, "dance": 0.3, "cps": 0.8}


def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Of the exact flow between N(0, 1) and N(MEAN, DEVIATION^2): (x_t - E[x0 | x_t]) / t."""
    s = t.view(-1, *[1] * (x.ndim - 1))
    variance = (1 - s) ** 2 * DEVIATION**2 + s**2
    x0 = MEAN + (1 - s) * DEVIATION**2 / variance * (x - (1 - s) * MEAN)
    return (x - x0) / s


def sd3_grid(steps: int, shift: float) -> list[float]:
    """As SD3's scheduler in diffusers has it: the last but one time is the shift of a thousandth, shifted again."""
    least = flow.shifted(torch.tensor(0.001, dtype=torch.float64), shift).item()
    return [*flow.shifted(torch.linspace(1, least, steps, dtype=torch.float64), shift).tolist(), 0.0]


def moments(kind: sde.Kind, times: list[float]) -> tuple[float, float]:
    """Mean and deviation after all steps, without sampling: each step is affine in x, so two probes tell it."""
    mean, variance = 0.0, 1.0
    for now, after in pairwise(times):
        x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        now_, after_ = (torch.full((2,), time, dtype=torch.float64) for time in (now, after))
        taken = sde.transition(kind, x, velocity(x, now_), now_, after_, LEVEL[kind])
        offset, slope = taken.mean[0].item(), (taken.mean[1] - taken.mean[0]).item()
        mean, variance = offset + slope * mean, slope**2 * variance + taken.deviation[0].item() ** 2
    return mean, math.sqrt(variance)


@pytest.mark.parametrize("kind", ["flow", "dance"])
def test_the_steps_of_an_sde_converge_to_the_distribution_of_the_data(kind: sde.Kind) -> None:
    off = []
    for steps in (10, 100, 1000):
        mean, deviation = moments(kind, flow.grid(steps, 1.0))
        off.append(abs(deviation - DEVIATION) + abs(mean - MEAN))
    assert off[0] > 5 * off[1]
    assert off[2] < 0.002


def test_cps_keeps_the_mean_and_draws_too_narrowly_at_any_number_of_steps() -> None:
    mean, deviation = moments("cps", flow.grid(1000, 1.0))
    assert abs(mean - MEAN) < 0.01
    assert deviation < 0.9 * DEVIATION


@pytest.mark.parametrize(
    ("kind", "steps", "shift", "published"),
    [
        ("flow", 10, 3.0, 0.421),
        ("dance", 10, 3.0, 0.377),
        ("cps", 10, 3.0, 0.308),
        ("flow", 40, 1.0, 0.496),
        ("dance", 40, 1.0, 0.484),
        ("cps", 40, 1.0, 0.385),
    ],
)
def test_deviation_is_the_one_measured_on_the_reference_samplers_and_scheduler(
    kind: sde.Kind, steps: int, shift: float, published: float
) -> None:
    assert moments(kind, sd3_grid(steps, shift))[1] == pytest.approx(published, abs=0.0015)


@pytest.mark.parametrize("kind", KINDS)
def test_density_and_divergence_are_those_of_torchs_normal(kind: sde.Kind) -> None:
    g = torch.Generator().manual_seed(0)
    x, v, w, noise = (torch.randn(3, 2, 3, 4, 4, generator=g, dtype=torch.float64) for _ in range(4))
    now, after = torch.tensor([1.0, 0.8, 0.3]).double(), torch.tensor([0.9, 0.5, 0.1]).double()
    one, two = (sde.transition(kind, x, u, now, after, LEVEL[kind]) for u in (v, w))
    spread = one.deviation.view(3, 1, 1, 1, 1)
    end = one.draw(noise)
    torch.testing.assert_close(one.log_probability(end), Normal(one.mean, spread).log_prob(end).flatten(1).mean(1))
    exact = kl_divergence(Normal(one.mean, spread), Normal(two.mean, spread)).flatten(1).mean(1)
    torch.testing.assert_close(one.divergence(two), exact)


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_a_batch_takes_its_own_step_whatever_its_dims(kind: sde.Kind) -> None:
    """Also where batch and channels are equal, where a wrong broadcast would go unseen."""
    g = torch.Generator().manual_seed(1)
    now, after = torch.tensor([1.0, 0.8, 0.3, 0.6]), torch.tensor([0.9, 0.5, 0.1, 0.2])
    for dims in [(5,), (4, 3), (4, 4, 4, 4)]:
        x, v = (torch.randn(4, *dims, generator=g) for _ in range(2))
        together = sde.transition(kind, x, v, now, after, LEVEL[kind])
        for i in range(4):
            alone = sde.transition(kind, x[[i]], v[[i]], now[[i]], after[[i]], LEVEL[kind])
            torch.testing.assert_close(together.mean[[i]], alone.mean)
            torch.testing.assert_close(together.deviation[[i]], alone.deviation)


def test_half_precision_states_are_stepped_in_float32() -> None:
    x = torch.randn(2, 3, 4, dtype=torch.bfloat16)
    taken = sde.transition("flow", x, x, torch.tensor([0.8, 0.8]), torch.tensor([0.5, 0.5]), 0.7)
    assert taken.mean.dtype == torch.float32
