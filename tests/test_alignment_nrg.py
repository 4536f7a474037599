"""A guide taught by a reward: against truncated Gaussians, whose values are known; and as a checkpoint that is led."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gaussian_policy import DEVIATION, Gaussian, GaussianPolicy, online
from scipy import stats
from torch import Tensor, nn

from alignment.algorithms.nrg import Nrg, NrgSettings, auc
from alignment.online import Online, TimesSettings, Update
from alignment.policy import Led, Policy
from alignment.recipe import NrgRecipe
from alignment.reinforce import Setup
from alignment.rollout import Drawing, RolloutSettings, generator_of
from alignment.scoring import Rewards
from models import flow
from models.generator import Generator, SamplerSettings
from models.guide import Guide
from models.weights import SHIPPED
from palate.config import load
from palate.errors import CheckpointError, ConfigError

EDGE = 0.4  # right is whatever lies beyond it along the first axis
ROLLOUTS = RolloutSettings(prompts=8, group=16, steps=12, shift=1.0)
SPAN = (0.05, 0.95)


def beyond(prompts: object, clips: Any) -> Rewards:
    return (np.asarray(clips)[:, 0] >= EDGE).astype(float)


def posterior(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the first value of x0 given x_t, for x0 ~ N(0, DEVIATION^2)."""
    variance = (1 - t) ** 2 * DEVIATION**2 + t**2
    return (1 - t) * DEVIATION**2 / variance * x[:, 0], DEVIATION * t / variance.sqrt()


class Exact(Guide):
    """The guide that knows: log-odds of x0 beyond the edge, from x_t itself."""

    def __init__(self, strength: float, earliest: float, latest: float) -> None:
        super().__init__(Gaussian(), 2, strength, earliest, latest)

    def leading(self, predict: flow.Predict, own: flow.Predict) -> flow.Predict:
        return super().leading(predict, lambda x, t: torch.cat([x, t[:, None].to(x.dtype)], dim=1))

    def forward(self, x0_hat: Tensor) -> Tensor:
        mean, deviation = posterior(x0_hat[:, :2], x0_hat[:, 2])
        z = (mean - EDGE) / deviation
        return torch.special.log_ndtr(z) - torch.special.log_ndtr(-z)


class Same(GaussianPolicy):
    """In float64, so that a slope is exact."""

    def __init__(self) -> None:
        super().__init__(dtype=torch.float64)


def drawn(policy: Policy, steps: int, count: int = 4000) -> Tensor:
    """By the ODE, with `Gaussian`'s own network."""
    x = policy.noise(count, generator_of(3))
    with torch.no_grad():
        for now, after in pairwise(flow.grid(steps, 1.0)):
            t = torch.full((count,), now, dtype=torch.float64)
            x = x + policy.velocity(Gaussian().double(), x, t, torch.zeros(count, 1)) * (after - now)
    return x


def test_the_exact_guide_draws_what_is_right_and_from_its_own_distribution() -> None:
    """Strength 1 is Doob's transform: samples are those of p(x0 | right), a truncated Gaussian along one axis."""
    found = drawn(Led(Same(), Exact(1.0, 0.0, 0.999)), 400)
    truth = stats.truncnorm(EDGE / DEVIATION, np.inf, scale=DEVIATION)
    assert float((found[:, 0] >= EDGE - 0.01).double().mean()) > 0.99
    assert float(found[:, 0].mean()) == pytest.approx(truth.mean(), abs=0.02)
    assert float(found[:, 0].std()) == pytest.approx(truth.std(), abs=0.02)
    assert float(found[:, 1].mean()) == pytest.approx(0, abs=0.03)
    assert float(found[:, 1].std()) == pytest.approx(DEVIATION, abs=0.02)
    plain = drawn(Same(), 400)
    assert float((plain[:, 0] >= EDGE).double().mean()) == pytest.approx(stats.norm.sf(EDGE / DEVIATION), abs=0.02)


def test_the_slope_is_that_of_the_log_chance_and_leads_in_its_span_alone() -> None:
    x = torch.tensor([[-0.4, 0.3], [0.1, 0.0], [1.2, -1.0], [0.5, 0.5]], dtype=torch.float64)
    t = torch.tensor([0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    policy, network, asked = Same(), Gaussian().double(), torch.zeros(4, 1)
    plain = policy.velocity(network, x, t, asked)
    led = Led(policy, Exact(2.5, 0.4, 0.8)).velocity(network, x, t, asked)
    mean, deviation = posterior(x, t)
    hazard = torch.from_numpy(stats.norm.pdf((mean - EDGE) / deviation) / stats.norm.cdf((mean - EDGE) / deviation))
    moved = t * (plain - led)[:, 0]  # of x0; the mean of a truncated Gaussian moves by deviation times hazard
    torch.testing.assert_close(moved, torch.where((t >= 0.4) & (t <= 0.8), 2.5 * deviation * hazard, 0.0))
    assert not (plain - led)[:, 1].any()


def taught(steps: int) -> tuple[Online, list[float]]:
    torch.manual_seed(0)
    guide = Guide(Gaussian(), 2, 1.0, *SPAN)
    objective = online(Nrg(NrgSettings()), beyond, ROLLOUTS, guide=guide)
    optimiser = torch.optim.Adam(guide.parameters(), lr=0.02)
    seen = []
    for step in range(steps):
        loss, watched = objective(step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(float(watched["guide_auc"]))
    return objective, seen


def test_a_guide_that_was_taught_approaches_the_one_that_knows() -> None:
    objective, seen = taught(150)
    guide = objective.learner.guide
    assert guide is not None
    assert np.mean(seen[-20:]) > 0.8
    found = drawn(Led(GaussianPolicy(), guide), 40, 2000)
    exact = drawn(Led(GaussianPolicy(), Exact(1.0, *SPAN)), 40, 2000)
    plain = drawn(GaussianPolicy(), 40, 2000)
    right = [float((x[:, 0] >= EDGE).double().mean()) for x in (plain, found, exact)]
    assert right[0] < 0.25
    assert right[2] > 0.95
    assert right[1] > 0.75, right
    assert abs(float(found[:, 1].mean())) < 0.15, "what the reward does not see stays"


def test_the_network_stays_and_only_the_guide_learns() -> None:
    objective, _ = taught(3)
    learner = objective.learner
    assert all(not p.requires_grad and not p.any() for p in learner.network.parameters())
    assert learner.guide is not None
    assert learner.guide.get_parameter("network.mean").any()


def test_the_path_is_where_the_samples_were() -> None:
    objective = online(Nrg(NrgSettings()), beyond, ROLLOUTS, guide=Guide(Gaussian(), 2, 1.0, 0.3, 0.8))
    drawn = objective.draw(0)
    grid = flow.grid(ROLLOUTS.steps, ROLLOUTS.shift)
    assert [one.t for one in drawn.path] == [t for t in grid if 0.3 <= t <= 0.8]
    network = objective.learner.network
    x = drawn.path[0].x
    for number, now in enumerate(grid[grid.index(drawn.path[0].t) : -1]):
        if number < len(drawn.path):
            assert torch.equal(x, drawn.path[number].x)
        with torch.no_grad():
            v = GaussianPolicy().velocity(network, x, torch.full((len(x),), now), torch.zeros(len(x), 1))
        x = x + v * (grid[grid.index(now) + 1] - now)
    assert torch.equal(x, drawn.latents)


def test_what_could_not_be_scored_says_nothing() -> None:
    def scored(prompts: object, clips: Any) -> Rewards:
        values = beyond(prompts, clips)
        values[::3] = np.nan
        return values

    gradients = []
    for other in (0.0, 5.0):
        torch.manual_seed(0)
        objective = online(Nrg(NrgSettings()), scored, ROLLOUTS, guide=Guide(Gaussian(), 2, 1.0, *SPAN))
        round_ = objective.draw(0)
        path = []
        for one in round_.path:
            x = one.x.clone()
            x[::3] += other
            path.append(replace(one, x=x))
        latents = round_.latents.clone()
        latents[::3] += other
        round_ = replace(round_, path=tuple(path), latents=latents)
        update = Update(objective.policy, objective.learner, round_, torch.arange(8), 0, True, 1, 1.0, TimesSettings())
        loss, watched = objective.algorithm.loss(update)
        loss.backward()
        assert float(watched["reward_failed"]) == pytest.approx(43 / 128)
        assert objective.learner.guide is not None
        gradients.append(objective.learner.guide.weigh.weight.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_area_under_the_curve() -> None:
    assert auc(torch.tensor([1.0, 2.0, 0.0, 1.5]), torch.tensor([True, True, False, False])) == 0.75


ROUND = ("rollout.prompts=4", "rollout.group=2", "rollout.steps=4", "fit.steps=2", "fit.save_every=2", "show_every=1")


@pytest.fixture(scope="module")
def led(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator with a guide, as the command writes it."""
    folder = tmp_path_factory.mktemp("led")
    Setup.of("nrg", load(NrgRecipe, None, (*ROUND, "nrg.right=0.1", "fit.lr=1e-2")), SHIPPED).run(folder)
    return folder / "generator.safetensors"


def test_a_led_generator_is_one_checkpoint(led: Path, tmp_path: Path) -> None:
    generator = Generator.load(led)
    assert generator.guide is not None
    assert generator.card["guide"] == {"strength": 12.0, "earliest": 0.6, "latest": 0.97}
    told = (["a red circle stays still, on a white background"], [5], SamplerSettings())
    again = tmp_path / "again.safetensors"
    assert generator.save(again) == Generator.load(led).checkpoint
    np.testing.assert_array_equal(Generator.load(again).clips(*told), generator.clips(*told))
    unled = Generator(generator.network, generator.codec, {})
    np.testing.assert_array_equal(unled.clips(*told), Generator.load(SHIPPED).clips(*told))
    assert (generator.latents(*told) != unled.latents(*told)).any()


def test_what_is_looked_at_is_led(led: Path) -> None:
    setup = Setup.of("nrg", load(NrgRecipe, None, ROUND), SHIPPED)
    guide = setup.learner.guide
    assert guide is not None
    nn.init.normal_(guide.weigh.weight)
    rollouts = setup.recipe.rollout.model_copy(update={"group": 1})
    prompts = ["a red circle stays still, on a white background"]
    latents = [
        Drawing(policy, setup.learner.network, rollouts, None, 4)
        .blocks(prompts, policy.conditions(prompts), [generator_of(1)], None)[0]
        .latents
        for policy in (setup._policy, setup.objective.policy)
    ]
    with torch.no_grad():
        words = setup.objective.policy.conditions(prompts)
        network, times = setup.learner.network, flow.grid(4, 3.0)
        predict = guide.leading(lambda x, t: network(x, t, words), lambda x, t: guide.network(x, t, words))
        expected = flow.euler(predict, setup.objective.policy.noise(1, generator_of(1)), times)
    torch.testing.assert_close(latents[0], expected, atol=1e-4, rtol=1e-4)
    assert (latents[0] - latents[1]).abs().max() > 1e-3


def test_what_is_led_is_not_taught_further(led: Path) -> None:
    with pytest.raises(CheckpointError, match="led by a guide"):
        Setup.of("nrg", load(NrgRecipe, None, ROUND), led)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (("nrg.earliest=0.98",), "below nrg.latest"),
        (("rollout.steps=2", "nrg.earliest=0.8"), "no denoise step"),
        (("times.split=0.5", "times.hold=1.0"), "holds a network that learns"),
        (("generator.family=wan",), "the shapes generator alone"),
        (("nrg.strength=0",), "nrg.strength"),
        (("nrg.right=2.5",), "the most that the verifier pays"),
    ],
)
def test_bad_recipes_are_refused(told: tuple[str, ...], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(NrgRecipe, None, told)
