"""Every online algorithm on the Gaussian flow, and the parts they share against closed forms."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gaussian_policy import DEVIATION, GaussianPolicy, near, online
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from alignment.advantage import AdvantageSettings, advantages
from alignment.algorithms.awm import Awm, AwmSettings
from alignment.algorithms.grpo import Grpo, GrpoSettings, OffPolicyError, divergence, refuse_off_policy
from alignment.algorithms.nft import Nft, NftSettings, nft_loss
from alignment.algorithms.online_dpo import OnlineDpo, OnlineDpoSettings, extremes
from alignment.algorithms.rwr import Rwr, RwrSettings, rwr_weights
from alignment.algorithms.sft import Sft, SftSettings, best
from alignment.online import Algorithm, Metrics, Noised, TimesSettings, Update
from alignment.policy import Learner
from alignment.rollout import RolloutSettings, WindowSettings
from models import sde
from models.fit import FitSettings, fit

TARGET = (0.8, -0.6)
ROLLOUTS = RolloutSettings(prompts=4, group=24, steps=6, shift=1.0)
NAN = float("nan")


def grpo(clip: float = 0.5, kl: float = 0.0, **window: object) -> Grpo:
    told = {"first": 0, "last": 3, "level": 0.7, **window}
    return Grpo(GrpoSettings(clip=clip, kl=kl, window=WindowSettings(**told)))  # type: ignore[arg-type]


LEARNERS: dict[str, Algorithm] = {
    "grpo": grpo(),
    "grpo without branches, two steps": grpo(branch=False, width=2),
    "grpo, dance": grpo(sampler="dance"),
    "grpo, cps": grpo(sampler="cps"),
    "grpo, progressive": grpo(place="progressive", stay=3),
    "grpo, guard": Grpo(GrpoSettings(clip=0.5, guard=True, window=WindowSettings(last=3))),
    "nft": Nft(NftSettings(rise=0.05)),
    "nft, anchored": Nft(NftSettings(rise=0.05, anchor=0.05)),
    "awm": Awm(AwmSettings()),
    "rwr": Rwr(RwrSettings()),
    "raft": Sft(SftSettings()),
    "dpo": OnlineDpo(OnlineDpoSettings(beta=2.0, renew=10)),
}
IMITATING = {"nft", "nft, anchored", "rwr"}  # they match samples that are all alike


@pytest.mark.parametrize("name", LEARNERS)
def test_every_algorithm_approaches_the_policy_of_the_highest_reward(name: str, tmp_path: Path) -> None:
    objective = online(LEARNERS[name], near(TARGET), ROLLOUTS)
    told = FitSettings(steps=100, lr=0.03, warmup=5, cooldown=0.5, save_every=100)
    fit(objective.learner, objective, told, tmp_path / "s.pt", "toy", name)
    mean = objective.learner.network.get_parameter("mean").detach()
    assert (mean - torch.tensor(TARGET)).norm() < 0.25  # from 1.0


@pytest.mark.parametrize("name", sorted(LEARNERS.keys() - IMITATING))
def test_tied_groups_teach_nothing(name: str) -> None:
    objective = online(LEARNERS[name], lambda prompts, clips: np.ones(len(clips)), ROLLOUTS)
    loss, watched = objective(0)
    loss.backward()
    gradient = objective.learner.network.get_parameter("mean").grad
    assert gradient is None or gradient.abs().max() == 0
    assert watched["zero_std_ratio"] == 1


@pytest.mark.parametrize("name", LEARNERS)
def test_a_sample_whose_reward_failed_changes_nothing(name: str) -> None:
    """The gradient is the same whatever the failed samples look like."""

    def fails_for_some(prompts: object, clips: np.ndarray) -> np.ndarray:
        values = near(TARGET)([], clips)
        values[::4] = np.nan
        return values

    gradients = []
    for other in (0.0, 5.0):
        objective = online(LEARNERS[name], fails_for_some, ROLLOUTS)
        _, watched = objective(0)
        assert watched["reward_failed"] == 0.25
        assert watched["reward_mean"].isfinite()
        assert objective._round is not None
        latents = objective._round.latents.clone()
        latents[::4] += other
        drawn = replace(objective._round, latents=latents)
        update = Update(objective.policy, objective.learner, drawn, torch.arange(4), 0, True, 1, 1.0, TimesSettings())
        objective.algorithm.loss(update)[0].backward()
        gradients.append(objective.learner.network.get_parameter("mean").grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_learning_above_the_split_and_holding_below_it() -> None:
    """Times of a loss are above; what is held is the mean squared move of the velocity, at times below."""
    seen: list[torch.Tensor] = []

    class Watched(GaussianPolicy):
        def velocity(
            self, network: nn.Module, x: torch.Tensor, t: torch.Tensor, conditions: torch.Tensor
        ) -> torch.Tensor:
            seen.append(t)
            return super().velocity(network, x, t, conditions)

    objective = online(Rwr(RwrSettings()), near(TARGET), ROLLOUTS, policy=Watched())
    objective.times, objective.learner = TimesSettings(split=0.6, hold=2.0), Learner(objective.learner.network, True)
    _, watched = objective(0)
    assert watched["held"] == 0
    learned, held, at_start = seen[-3:]
    assert (len(learned), len(held)) == (ROLLOUTS.samples, ROLLOUTS.prompts)
    assert learned.min() >= 0.6
    assert held.max() < 0.6
    assert torch.equal(held, at_start)

    move = 0.3
    with torch.no_grad():
        objective.learner.network.get_parameter("mean").add_(move)
    moved, watched = objective(1)
    s = seen[-1].double()
    a_velocity = -(1 - (1 - s) ** 2 * DEVIATION**2 / ((1 - s) ** 2 * DEVIATION**2 + s**2)) / s  # of the mean
    assert float(watched["held"]) == pytest.approx(float((a_velocity * move).square().mean()), rel=1e-4)
    objective.times = TimesSettings(split=0.6)
    assert float((moved - objective(1)[0]).detach()) == pytest.approx(2 * float(watched["held"]), rel=1e-4)
    with pytest.raises(ValidationError, match="hold is of times below split"):
        TimesSettings(hold=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("updates", [1, 2, 4])
@pytest.mark.parametrize("branch", [True, False])
def test_the_ratio_is_exactly_1_before_an_update(dtype: torch.dtype, updates: int, branch: bool) -> None:
    for sampler in ("flow", "dance", "cps"):
        for guard in (False, True):
            window = WindowSettings(sampler=sampler, branch=branch, width=2, last=3)
            algorithm = Grpo(GrpoSettings(clip=1e-12, guard=guard, window=window))
            objective = online(algorithm, near(TARGET), ROLLOUTS, updates, GaussianPolicy(dtype=dtype))
            _, watched = objective(0)  # would be refused if any ratio were off by 1e-13
            assert watched["clipfrac"] == 0
            assert watched["approx_kl"] == 0


def test_training_refuses_to_start_where_the_ratio_is_not_1() -> None:
    with pytest.raises(OffPolicyError, match=r"off by 2\.0e-05, with a clip of 1\.0e-04"):
        refuse_off_policy(torch.tensor([1.0, 1.00002], dtype=torch.float64), 1e-4)
    with pytest.raises(OffPolicyError):
        refuse_off_policy(torch.tensor([NAN]), 1e-4)
    refuse_off_policy(torch.tensor([1.0, 1.000002]), 1e-4)


@pytest.mark.parametrize("scaling", ["gaussian", "flow_grpo"])
def test_kl_and_its_gradient_are_the_closed_form(scaling: str) -> None:
    s, n, a = 0.7, 0.5, 0.7
    h, variance = s - n, a**2 * s / (1 - s)
    off = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    now, after = torch.full((5,), s).double(), torch.full((5,), n).double()
    new, reference = (sde.transition("flow", x, v, now, after, a) for v in (x + off, x.clone()))
    found = divergence(new, reference, h, scaling).mean()  # type: ignore[arg-type]
    found.backward()
    lever = h * (1 + variance * (1 - s) / (2 * s))  # how far a velocity moves the mean
    scale = 1 / (2 * variance * (h if scaling == "gaussian" else 1.0))
    assert found.item() == pytest.approx((lever * 0.3) ** 2 * scale, rel=1e-6)
    assert off.grad is not None
    assert off.grad.item() == pytest.approx(2 * lever**2 * 0.3 * scale, rel=1e-6)


def test_kl_holds_the_policy_near_its_start(tmp_path: Path) -> None:
    ends = []
    for kl in (0.0, 0.3, 3.0):
        objective = online(grpo(kl=kl), near(TARGET), ROLLOUTS)
        told = FitSettings(steps=60, lr=0.03, warmup=5, cooldown=0.5, save_every=60)
        fit(objective.learner, objective, told, tmp_path / f"{kl}.pt", "toy", "kl")
        ends.append(objective.learner.network.get_parameter("mean").detach().norm().item())
    assert ends[0] > ends[1] > 2 * ends[2]


def test_the_gradient_of_a_branch_is_the_score_function_estimate() -> None:
    """sum of A z dmean / (deviation * values * samples), from the definition of the density."""
    objective = online(grpo(), near(TARGET), ROLLOUTS)
    loss, _ = objective(0)
    loss.backward()
    rollout = objective._round
    assert rollout is not None
    (step,) = rollout.random_steps
    mean = torch.zeros(2, requires_grad=True)
    network = type(objective.learner.network)()
    network.mean.data = mean.data
    s = torch.full((len(step.start),), step.now)
    expected = objective.algorithm.window.step(step.start, network(step.start, s, s), step.now, step.after)  # type: ignore[union-attr]
    z = (step.end - expected.mean[step.row]) / expected.deviation[step.row][:, None]
    a = advantages(rollout.rewards, AdvantageSettings()).flatten()
    total = -(a[:, None] * z.detach() * expected.mean[step.row] / expected.deviation[step.row][:, None]).mean()
    (by_hand,) = torch.autograd.grad(total, network.mean)
    torch.testing.assert_close(objective.learner.network.get_parameter("mean").grad, by_hand, rtol=1e-4, atol=1e-6)


@given(
    st.lists(st.lists(st.floats(-3, 3) | st.just(NAN), min_size=4, max_size=4), min_size=1, max_size=5),
    st.sampled_from(["group", "batch", "none"]),
    st.floats(-10, 10),
)
def test_advantages_are_centred_bounded_and_blind_to_a_shift(rows: list[list[float]], scale: str, shift: float) -> None:
    rewards = torch.tensor(rows, dtype=torch.float64)
    settings = AdvantageSettings(scale=scale, limit=100.0)  # type: ignore[arg-type]
    found = advantages(rewards, settings)
    assert found.isfinite().all()
    assert (found[rewards.isnan()] == 0).all()
    assert found.sum(dim=1).abs().max() < 1e-3
    torch.testing.assert_close(advantages(rewards + shift, settings), found, atol=1e-3, rtol=1e-3)


def test_noise_in_the_reward_gives_no_unit_advantage() -> None:
    noise = 1e-5 * torch.randn(6, 24, generator=torch.Generator().manual_seed(0))
    for scale in ("group", "batch"):
        assert advantages(1 + noise, AdvantageSettings(scale=scale)).abs().max() < 0.01


def test_advantages_by_group_and_by_batch_are_those_of_flow_grpo() -> None:
    rewards = torch.tensor([[0.0, 1.0, 2.0, 5.0], [3.0, 3.0, 1.0, 1.0]])
    off = (rewards - rewards.mean(1, keepdim=True)).numpy()
    by_group = off / rewards.numpy().std(axis=1, keepdims=True)
    by_batch = off / rewards.numpy().std()
    for scale, expected in (("group", by_group), ("batch", by_batch)):
        found = advantages(rewards, AdvantageSettings(scale=scale))  # type: ignore[arg-type]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_rwr_weighs_samples_into_the_tilted_distribution() -> None:
    """Of N(m, s^2) by exp(r / T) with r = c x: a Gaussian of the same deviation and mean m + s^2 c / T."""
    x = 0.3 + DEVIATION * torch.randn(1, 200_000, generator=torch.Generator().manual_seed(0))
    weights = rwr_weights(2.0 * x, RwrSettings(temperature=1.5, most=1e9))
    mean = (weights * x).mean().item()
    assert mean == pytest.approx(0.3 + DEVIATION**2 * 2.0 / 1.5, abs=0.01)
    assert (weights * (x - mean).square()).mean().sqrt().item() == pytest.approx(DEVIATION, abs=0.01)


def test_rwr_gives_no_weight_to_a_missing_reward() -> None:
    weights = rwr_weights(torch.tensor([[1.0, NAN, 1.0], [NAN, NAN, NAN]]), RwrSettings())
    assert weights.tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_only_the_best_are_kept_and_none_of_a_tied_group() -> None:
    rewards = torch.tensor([[1.0, 3.0, 2.0, NAN], [2.0, 2.0, 2.0, NAN], [1.0, 4.0, 4.0, 0.0]])
    assert best(rewards, 1).tolist() == [[False, True, False, False], [False] * 4, [False, True, True, False]]


def test_a_dry_run_counts_equals_that_are_all_kept() -> None:
    rollouts = RolloutSettings(prompts=2, group=4)
    kept = best(torch.tensor([[1.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 1.0]]), 1).sum()
    assert kept <= Sft(SftSettings(keep=1)).trained_rows(rollouts)


def test_pairs_are_of_the_best_and_the_worst_and_a_tied_group_has_none() -> None:
    high, low, differ = extremes(torch.tensor([[1.0, 3.0, NAN], [2.0, 2.0, NAN], [NAN, NAN, NAN]]))
    assert differ.tolist() == [True, False, False]
    assert (high[0].item(), low[0].item()) == (1, 0)


def test_nft_at_the_old_policy_pulls_toward_good_samples_and_away_from_bad_ones() -> None:
    """At v = v_old all branches are the old guess: the gradient is (2 r - 1 + anchor) times the good branch's."""
    g = torch.Generator().manual_seed(0)
    x0, eps, old = (torch.randn(3, 4, generator=g) for _ in range(3))
    noised = Noised(x0, torch.tensor([0.2, 0.5, 0.9]), eps, torch.zeros(3, 1))

    def gradient(good: list[float], anchor: float = 0.0) -> torch.Tensor:
        v = old.clone().requires_grad_()
        nft_loss(noised, v, old, torch.tensor(good), 0.7, anchor).sum().backward()
        assert v.grad is not None
        return v.grad

    toward = gradient([1.0, 1.0, 1.0])
    assert toward.abs().min() > 0
    torch.testing.assert_close(gradient([0.0, 0.5, 0.75]), toward * torch.tensor([-1.0, 0.0, 0.5])[:, None])
    torch.testing.assert_close(gradient([0.0, 0.5, 0.75], 0.2), toward * torch.tensor([-0.8, 0.2, 0.7])[:, None])


def test_a_round_is_drawn_once_and_learned_from_in_every_pass_under_noise_of_its_own() -> None:
    asked: list[int] = []

    def counted(prompts: Sequence[str], clips: np.ndarray) -> np.ndarray:
        asked.append(len(prompts))
        return near(TARGET)(prompts, clips)

    seen: list[Update] = []

    class Noting(Rwr):
        def loss(self, update: Update) -> tuple[torch.Tensor, Metrics]:
            seen.append(update)
            return super().loss(update)

    objective = online(Noting(RwrSettings()), counted, ROLLOUTS, updates=2, passes=3)
    for step in range(12):
        objective(step)
    assert sum(asked) == 2 * ROLLOUTS.samples  # twelve steps are two rounds
    assert [update.first for update in seen] == [True, *[False] * 5] * 2
    assert [update.prompts.tolist() for update in seen] == [[0, 1], [2, 3]] * 6
    times = [update.noised(update.samples).t for update in seen[:6:2]]
    assert not torch.equal(times[0], times[1])
    assert not torch.equal(times[1], times[2])


def test_a_progressive_window_moves_on_and_back() -> None:
    window = WindowSettings(place="progressive", first=1, last=3, stay=2)
    rng = torch.Generator()
    assert [window.begins(i, rng) for i in range(8)] == [1, 1, 2, 2, 3, 3, 1, 1]


def test_a_trajectory_is_kept_once_and_only_where_it_is_trained_on() -> None:
    for branch, rows in ((True, 4), (False, 96)):
        objective = online(grpo(branch=branch, width=2, first=1, last=1), near(TARGET), ROLLOUTS)
        objective(0)
        assert objective._round is not None
        first, second = objective._round.random_steps
        assert len(first.start) == rows
        assert second.start is first.end
        assert math.isclose(first.after, second.now)
