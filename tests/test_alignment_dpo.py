"""Flow-DPO against its closed forms, and on a toy whose answer is known."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alignment.algorithms.dpo import DpoSettings, FlowDpo, PairErrors, dpo_loss
from alignment.pairs import Pairs
from alignment.policy import Learner, ShapesPolicy
from models.conditions import tokens
from models.dit import VideoTransformer
from models.fit import FitSettings, fit
from models.flavours import FLAVOURS, network_shape
from models.generator import Generator
from models.pretrain import fit_codec
from palate.config import load
from palate.errors import ConfigError

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


class Known:
    """Satisfies alignment.pairs.Latents."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.shape = rows, rows.shape[1:]

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.rows[rows]


def objective(hold: float, batch: int = 8) -> FlowDpo:
    """Pairs of a bright winner and a dark loser, of one caption, for a tiny network."""
    torch.manual_seed(0)
    network = VideoTransformer(network_shape(FLAVOURS["tiny"]))
    words = tokens(["a red circle moves left, on a white background"])
    values = torch.tensor([0.5, -0.5]).repeat_interleave(4)[:, None, None]
    rows = Known(values.expand(8, network.shape.tokens, network.shape.channels))
    first, none = torch.arange(4), torch.zeros(4, dtype=torch.long)
    pairs = Pairs(words, rows, none, first, first + 4, torch.ones(4))
    policy = ShapesPolicy(Generator(network, fit_codec(FLAVOURS["tiny"], 0), {}))
    settings = DpoSettings(beta=20, hold=hold, batch=batch)
    return FlowDpo(policy, Learner(network, reference=True), pairs, settings, seed=0)


def trained(folder: Path, hold: float) -> tuple[FlowDpo, list[dict[str, float]]]:
    """The objective after a hundred steps, and what was watched."""
    learned = objective(hold)
    seen: list[dict[str, float]] = []
    settings = FitSettings(steps=101, lr=1e-3, warmup=5)
    fit(learned.learner, learned, settings, folder / f"{hold}.pt", "dpo", "", lambda p: seen.append(p.metrics))
    return learned, seen


def test_training_moves_error_from_winners_to_losers(tmp_path: Path) -> None:
    objective, seen = trained(tmp_path, hold=0.1)
    assert seen[-1]["implicit_accuracy"] == 1.0
    assert seen[-1]["winner_drift"] < 0 < seen[-1]["loser_drift"]
    first = objective(0)[0].item()
    assert first == objective(0)[0].item()  # a step is a function of its number


def test_holding_keeps_what_is_drawn_at_low_noise_and_lets_high_noise_learn(tmp_path: Path) -> None:
    free, held = (trained(tmp_path, hold)[1][-1] for hold in (1e-6, 30.0))
    assert held["held"] < 0.1 * free["held"]
    assert held["implicit_accuracy"] == 1.0


def test_hold_wants_a_split() -> None:
    with pytest.raises(ConfigError, match="hold is of times below split"):
        load(DpoSettings, None, ("split=0", "hold=1"))
    assert load(DpoSettings, None, ("split=0", "hold=0")).split == 0
