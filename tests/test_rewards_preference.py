"""Losses against closed forms, against the statistics' own model of ties, and against simulated truth."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from annotation.simulate import rao_kupper
from palate.stats.ties import Ties, curve
from rewards.preference import (
    bradley_terry,
    entropy,
    log_odds,
    mean_over,
    rating,
    with_ties,
)

GOOD, SAME, BAD = torch.eye(3, dtype=torch.float64)
LEAD = torch.tensor([-3.0, -0.4, 0.0, 1.7, 40.0], dtype=torch.float64)


def test_bradley_terry_is_the_log_of_the_odds() -> None:
    lead = torch.tensor(0.8)
    p = 1 / (1 + math.exp(-0.8))
    assert bradley_terry(lead, GOOD).item() == pytest.approx(-math.log(p))
    assert bradley_terry(lead, BAD).item() == pytest.approx(-math.log(1 - p))
    assert bradley_terry(lead, SAME).item() == 0
    soft = bradley_terry(lead, torch.tensor([0.75, 0.0, 0.25]))
    assert soft.item() == pytest.approx(-0.75 * math.log(p) - 0.25 * math.log(1 - p))
    assert bradley_terry(lead, GOOD, 0.57).item() == pytest.approx(math.log1p(math.exp(-0.23)), rel=1e-6)
    assert bradley_terry(-lead, BAD, 0.57).item() == pytest.approx(math.log1p(math.exp(-0.23)), rel=1e-6)


@pytest.mark.parametrize(("ties", "t"), [("rao_kupper", math.log(5)), ("rao_kupper", 0.01), ("davidson", -0.7)])
def test_probabilities_and_slopes_are_those_of_the_statistics(ties: Ties, t: float) -> None:
    lead, at = LEAD.clone().requires_grad_(), torch.tensor(t, dtype=torch.float64, requires_grad=True)
    ours, theirs = log_odds(lead, at, ties), curve(ties, LEAD.numpy(), t)
    np.testing.assert_allclose(ours.detach().T, theirs.log, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.exp().sum(-1).detach(), 1, rtol=1e-12)
    for kind in range(3):
        slopes = torch.autograd.grad(ours[:, kind].sum(), [lead, at], retain_graph=True)
        np.testing.assert_allclose(slopes[0], theirs.x[kind], rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(slopes[1], theirs.t[kind].sum(), rtol=1e-8, atol=1e-12)


def test_rao_kupper_is_the_btt_loss_of_videoalign() -> None:
    """The formulas of its paper, k = 5: of a verdict -ln s(d - ln k), of a tie also - ln(k^2 - 1)."""
    d, k = LEAD, 5.0
    won, lost = torch.sigmoid(d - math.log(k)), torch.sigmoid(-d - math.log(k))
    torch.testing.assert_close(with_ties(d, GOOD, math.log(k), "rao_kupper"), -won.log())
    tie = -won.log() - lost.log() - math.log(k * k - 1)
    torch.testing.assert_close(with_ties(d, SAME, math.log(k), "rao_kupper"), tie)
    even = with_ties(torch.zeros(1), SAME, math.log(5), "rao_kupper")
    assert even.exp().reciprocal().item() == pytest.approx(2 / 3)


def test_without_room_for_ties_rao_kupper_is_bradley_terry() -> None:
    near = with_ties(LEAD, GOOD, 1e-9, "rao_kupper")
    torch.testing.assert_close(near, bradley_terry(LEAD, GOOD), rtol=0, atol=1e-8)


@pytest.mark.parametrize("ties", ["rao_kupper", "davidson"])
def test_a_soft_label_is_the_mean_of_its_votes_and_its_floor_is_their_entropy(ties: Ties) -> None:
    votes = torch.stack([GOOD, GOOD, SAME, BAD])
    one = torch.tensor([0.3], dtype=torch.float64)
    parts = torch.stack([with_ties(one, vote, 0.9, ties) for vote in votes])
    torch.testing.assert_close(with_ties(one, votes.mean(0), 0.9, ties), parts.mean(0))
    lead, t = torch.zeros(1, dtype=torch.float64, requires_grad=True), torch.tensor([0.9], dtype=torch.float64)
    _minimise(lambda: with_ties(lead, votes.mean(0), t.requires_grad_(), ties).sum(), [lead, t])
    assert with_ties(lead, votes.mean(0), t, ties).item() == pytest.approx(entropy(votes.mean(0)).item(), abs=1e-6)


def test_ratings_and_weights() -> None:
    loss = rating(torch.tensor([0.5, -2.0, 9.0]), torch.tensor([4.0, 1.0, 3.0]))
    assert loss.tolist() == [0.25, 0.0, 81.0]
    assert mean_over(loss, torch.tensor([1.0, 3.0, 0.0])).item() == pytest.approx(0.0625)
    assert mean_over(loss, torch.zeros(3)).item() == 0


@pytest.mark.parametrize("ties", ["rao_kupper", "davidson"])
def test_it_recovers_the_truth_that_made_the_votes(ties: Ties) -> None:
    """Twelve videos of known reward, 20,000 votes: every reward within its noise, and k (or nu) with them."""
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 1, 12)
    truth -= truth.mean()
    first, second = rng.integers(0, 12, (2, 5_000))
    first, second = first[first != second], second[first != second]
    d = truth[first] - truth[second]
    if ties == "rao_kupper":
        odds = np.stack(rao_kupper(d, 2.5), axis=1)
    else:
        raw = np.exp(np.stack([d / 2, np.full_like(d, -0.2), -d / 2], axis=1))
        odds = raw / raw.sum(1, keepdims=True)
    drawn = (rng.random((len(d), 1)) > odds.cumsum(1)).sum(1)
    shares = torch.eye(3, dtype=torch.float64)[drawn]
    reward = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    _minimise(lambda: with_ties(reward[first] - reward[second], shares, t, ties).mean(), [reward, t])
    found = reward.detach() - reward.detach().mean()
    assert np.abs(found.numpy() - truth).max() < 4 * 2 / math.sqrt(2 * len(d) / 12)  # about four standard errors
    assert t.item() == pytest.approx(math.log(2.5) if ties == "rao_kupper" else -0.2, abs=0.1)


def test_a_wrong_fixed_k_shrinks_or_stretches_the_rewards() -> None:
    """Why k should be learned: at VideoAlign's k = 5 the same votes need larger leads."""
    rng = np.random.default_rng(4)
    odds = torch.tensor(np.stack(rao_kupper(np.array([1.0]), 2.5), axis=1))
    shares = odds.expand(1, 3)
    leads = []
    for k in (2.5, 5.0):
        lead = torch.tensor([rng.normal()], dtype=torch.float64, requires_grad=True)
        _minimise(lambda lead=lead, k=k: with_ties(lead, shares, math.log(k), "rao_kupper").sum(), [lead])
        leads.append(lead.item())
    assert leads[0] == pytest.approx(1.0, abs=1e-3)
    assert leads[1] > 1.15


def _minimise(loss, over: list[Tensor]) -> None:  # type: ignore[no-untyped-def]
    optimiser = torch.optim.LBFGS(over, max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
