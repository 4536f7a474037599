"""Flow-DPO against its closed forms, and on a toy whose answer is known."""

import math
from pathlib import Path

import torch

from alignment.algorithms.dpo import DpoSettings, FlowDpo, PairErrors, dpo_loss
from alignment.pairs import Pairs
from models.conditions import tokens
from models.dit import VideoTransformer
from models.fit import FitSettings, fit
from models.flavours import FLAVOURS, network_shape

ERRORS = torch.tensor([0.5, 0.7, 0.2])
WEIGHT = torch.tensor([1.0, 0.5, 0.25])


def test_policy_equal_to_reference_gives_ln_2() -> None:
    same = PairErrors(ERRORS, ERRORS.flip(0), ERRORS, ERRORS.flip(0))
    loss, watched = dpo_loss(same, WEIGHT, beta=500)
    assert math.isclose(loss.item(), math.log(2), rel_tol=1e-6)
    assert watched["winner_drift"].item() == 0


def test_gradient_at_the_reference_is_beta_over_four() -> None:
    winner, loser = ERRORS.clone().requires_grad_(), ERRORS.flip(0).clone().requires_grad_()
    loss, _ = dpo_loss(PairErrors(winner, loser, ERRORS, ERRORS.flip(0)), WEIGHT, beta=300)
    loss.backward()
    expected = 300 / 4 * WEIGHT / WEIGHT.sum()
    torch.testing.assert_close(winner.grad, expected)
    torch.testing.assert_close(loser.grad, -expected)


def test_swapping_winner_and_loser_flips_the_margin() -> None:
    better, worse = ERRORS - 0.01, ERRORS + 0.02
    one = torch.ones(3)
    forward, _ = dpo_loss(PairErrors(better, worse, ERRORS, ERRORS), one, beta=100)
    swapped, _ = dpo_loss(PairErrors(worse, better, ERRORS, ERRORS), one, beta=100)
    margin = 100 / 2 * 0.03
    assert math.isclose(forward.item(), math.log1p(math.exp(-margin)), rel_tol=1e-4)
    assert math.isclose(swapped.item() - forward.item(), margin, rel_tol=1e-4)


def test_a_pair_of_no_weight_changes_nothing() -> None:
    errors = PairErrors(ERRORS - 0.01, ERRORS, ERRORS, ERRORS)
    all_three, _ = dpo_loss(errors, torch.tensor([1.0, 1.0, 0.0]), beta=100)
    cut = PairErrors(
        *(part[:2] for part in (errors.winner, errors.loser, errors.winner_reference, errors.loser_reference))
    )
    two, _ = dpo_loss(cut, torch.ones(2), beta=100)
    torch.testing.assert_close(all_three, two)


def trained(folder: Path, hold: float) -> tuple[FlowDpo, list[dict[str, float]]]:
    """A tiny network after a hundred steps on pairs of a bright winner and a dark loser, and what was watched."""
    torch.manual_seed(0)
    policy = VideoTransformer(network_shape(FLAVOURS["tiny"]))
    reference = VideoTransformer(policy.shape)
    reference.load_state_dict(policy.state_dict())
    caption = "a red circle moves left, on a white background"
    shape = (4, policy.shape.tokens, policy.shape.channels)
    pairs = Pairs(tokens([caption] * 4), torch.full(shape, 0.5), torch.full(shape, -0.5), torch.ones(4))
    objective = FlowDpo(policy, reference, pairs, DpoSettings(beta=20, hold=hold, batch=8), seed=0)
    seen: list[dict[str, float]] = []
    settings = FitSettings(steps=101, lr=1e-3, warmup=5)
    fit(policy, objective, settings, folder / f"{hold}.pt", "dpo", "", lambda p: seen.append(p.metrics))
    return objective, seen


def test_training_moves_error_from_winners_to_losers(tmp_path: Path) -> None:
    objective, seen = trained(tmp_path, hold=0.1)
    assert seen[-1]["implicit_accuracy"] == 1.0
    assert seen[-1]["winner_drift"] < 0 < seen[-1]["loser_drift"]
    first = objective(0)[0].item()
    assert first == objective(0)[0].item()  # a step is a function of its number


def test_holding_keeps_what_is_drawn_at_low_noise_and_lets_high_noise_learn(tmp_path: Path) -> None:
    free, held = (trained(tmp_path, hold)[1][-1] for hold in (0.0, 30.0))
    assert held["held"] < 0.1 * free["held"]
    assert held["implicit_accuracy"] == 1.0
