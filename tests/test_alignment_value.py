"""Value-guided matching against closed forms on Gaussians; who learns when; and what says nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gaussian_policy import GaussianPolicy, near, online
from torch.nn import functional as F  # noqa: N812 (the usual name)

from alignment.algorithms.value import Value, ValueSettings, guidance
from alignment.online import TimesSettings, Update
from alignment.rollout import RolloutSettings

TARGET = (0.8, -0.6)
ROLLOUTS = RolloutSettings(prompts=4, group=24, steps=6, shift=1.0)


def test_guidance_by_the_true_value_is_the_tilted_posterior() -> None:
    """x0 ~ N(m, s^2) under the reward k x0: E[x0 | x_t] moves by k Var(x0 | x_t), and E[e^(k x0) | x_t] is known."""
    m, s, k = 0.3, 0.7, 1.3
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    x = torch.tensor([[-0.4], [0.1], [1.2]], dtype=torch.float64, requires_grad=True)
    spread = (1 - t) ** 2 * s**2 + t**2
    mean = m + ((1 - t) * s**2 / spread)[:, None] * (x - ((1 - t) * m)[:, None])
    variance = s**2 * t**2 / spread
    log_h = (k * mean).squeeze(1) + k**2 * variance / 2 - 10.0  # a chance, so far under 1
    logit = log_h - torch.log1p(-log_h.exp())
    move = guidance(logit, x, t, 1.0)
    torch.testing.assert_close(move.squeeze(1), k * variance)
    torch.testing.assert_close(guidance(logit, x, t, 2.5), 2.5 * move)


def test_only_the_value_learns_for_the_first_steps() -> None:
    objective = online(Value(ValueSettings(lead=2)), near(TARGET), ROLLOUTS)
    learner = objective.learner
    optimiser = torch.optim.SGD(learner.parameters(), lr=1.0)
    for step in range(4):
        optimiser.zero_grad()
        loss, watched = objective(step)
        if step == 0:
            assert float(watched["value_loss"]) == pytest.approx(np.log(2))
        loss.backward()
        assert all(p.grad is not None for p in learner.critic.parameters())  # type: ignore[union-attr]
        gradient = learner.network.get_parameter("mean").grad
        assert (gradient is not None and gradient.abs().max() > 0) == (step >= 2)
        optimiser.step()


def test_the_value_learns_which_way_the_target_lies() -> None:
    objective = online(Value(ValueSettings(lead=1000)), near(TARGET), ROLLOUTS)
    critic = objective.learner.critic
    assert critic is not None
    optimiser = torch.optim.Adam(critic.parameters(), lr=0.05)
    accuracy = []
    for step in range(60):
        loss, watched = objective(step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        accuracy.append(float(watched["value_accuracy"]))
    assert np.mean(accuracy[-10:]) > 0.65
    x = torch.zeros(1, 2, requires_grad=True)
    t = torch.full((1,), 0.5)
    (slope,) = torch.autograd.grad(F.logsigmoid(critic(GaussianPolicy(), x, t, torch.zeros(1, 1))).sum(), x)
    assert torch.cosine_similarity(slope, torch.tensor([TARGET])) > 0.95


def test_what_failed_or_is_tied_says_nothing() -> None:
    """The critic's gradient is the same whatever states they went through."""

    def scored(prompts: object, clips: np.ndarray) -> np.ndarray:
        values = near(TARGET)([], clips)
        values[:24] = 1.0  # the first group is tied
        values[24:48:2] = np.nan
        return values

    gradients = []
    for other in (0.0, 5.0):
        objective = online(Value(ValueSettings()), scored, ROLLOUTS)
        objective(0)
        drawn = objective._round
        assert drawn is not None
        steps = []
        for step in drawn.random_steps:
            start = step.start.clone()
            start[:24] += other
            start[24:48:2] += other
            steps.append(replace(step, start=start))
        drawn = replace(drawn, random_steps=tuple(steps))
        update = Update(objective.policy, objective.learner, drawn, torch.arange(4), 0, True, 1, 1.0, TimesSettings())
        objective.algorithm.loss(update)[0].backward()
        critic = objective.learner.critic
        assert critic is not None
        gradients.append(critic.get_parameter("weights").grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_round_of_ties_teaches_nothing() -> None:
    objective = online(Value(ValueSettings(lead=0)), lambda prompts, clips: np.ones(len(clips)), ROLLOUTS)
    loss, watched = objective(0)
    loss.backward()
    assert watched["zero_std_ratio"] == 1
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in objective.learner.parameters())
