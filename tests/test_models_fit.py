"""The training loop: exact after a kill, whatever the optimiser; Muon against the exact polar factor."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import launch
from models.fit import FitSettings, Loss, fit
from models.muon import Muon, orthogonal
from palate.errors import CheckpointError


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 6)])
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks[1](torch.tanh(self.blocks[0](x))))


def toy(seed: int = 0) -> Toy:
    torch.manual_seed(seed)
    return Toy()


def objective(model: nn.Module) -> Loss:
    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}

    return loss


def settings(optimiser: str, steps: int = 60, save_every: int = 7) -> FitSettings:
    return FitSettings(steps=steps, lr=1e-2, warmup=5, ema=0.9, optimiser=optimiser, save_every=save_every)  # type: ignore[arg-type]


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests")
import models.fit as fitting
from test_models_fit import objective, settings, toy
model = toy()
loss = objective(model)
def until_killed(step):
    if step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(step)
fitting.fit(model, until_killed, settings(sys.argv[2]), Path(sys.argv[1]), "toy", "child")
"""


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_run_killed_with_9_ends_bit_for_bit_where_an_unbroken_run_ends(tmp_path: Path, optimiser: str) -> None:
    whole = toy()
    fit(whole, objective(whole), settings(optimiser), tmp_path / "whole.pt", "toy", "whole")
    for step in (3, 31):
        command = [sys.executable, "-c", CHILD, str(tmp_path / "broken.pt"), optimiser, str(step)]
        child = subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, check=False)
        assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    broken = toy(seed=99)  # starts from the state alone
    fit(broken, objective(broken), settings(optimiser), tmp_path / "broken.pt", "toy", "broken")
    for a, b in zip(weights(whole), weights(broken)):
        assert torch.equal(a, b)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_it_learns_and_a_finished_run_is_not_trained_again(tmp_path: Path, optimiser: str) -> None:
    model = toy()
    losses: list[float] = []
    fit(
        model,
        objective(model),
        settings(optimiser, 300),
        tmp_path / "s.pt",
        "toy",
        "toy",
        lambda p: losses.append(p.loss),
    )
    assert losses[-1] < 0.2 * losses[0]
    again = toy(seed=5)
    fit(
        again,
        objective(again),
        settings(optimiser, 300),
        tmp_path / "s.pt",
        "toy",
        "toy",
        lambda p: losses.append(p.loss),
    )
    for a, b in zip(weights(model), weights(again)):
        assert torch.equal(a, b)


def test_averaged_weights_are_what_is_left_in_the_model(tmp_path: Path) -> None:
    with_average, without = toy(), toy()
    fit(with_average, objective(with_average), settings("adamw"), tmp_path / "a.pt", "toy", "a")
    plain = settings("adamw").model_copy(update={"ema": 0.0})
    fit(without, objective(without), plain, tmp_path / "b.pt", "toy", "b")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    for raw, last, kept in zip(state["model"].values(), without.state_dict().values(), with_average.parameters()):
        assert torch.equal(raw, last)
        assert not torch.equal(raw, kept)


def test_a_state_of_another_run_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    model = toy()
    fit(model, objective(model), settings("adamw", 5), tmp_path / "s.pt", "toy", "toy")
    with pytest.raises(CheckpointError, match="another run"):
        fit(model, objective(model), settings("adamw", 5), tmp_path / "s.pt", "other", "toy")
    (tmp_path / "s.pt").write_bytes((tmp_path / "s.pt").read_bytes()[:500])
    with pytest.raises(CheckpointError, match="damaged"):
        fit(model, objective(model), settings("adamw", 5), tmp_path / "s.pt", "toy", "toy")


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before processes compare their weights: those that are no numbers differ from themselves."""
    compared: list[int] = []
    monkeypatch.setattr(launch, "check_same", lambda _, step: compared.append(step))
    model = toy()
    with pytest.raises(FloatingPointError, match="the loss of step 0"):
        fit(
            model,
            lambda step: (model(torch.full((2, 6), torch.nan)).sum(), {}),
            settings("adamw"),
            tmp_path / "s.pt",
            "x",
            "x",
        )
    assert not (tmp_path / "s.pt").exists()
    assert not compared


def test_a_gradient_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    """The loss of such a step is a number; the weights that it would leave are none."""
    model = toy()
    sound = objective(model)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        root = (0.0 * model.head.weight).abs().sum().sqrt()  # 0, of infinite slope
        return sound(step)[0] + (root if step == 5 else 0.0), {}

    for _ in range(2):  # and a resumed run meets the same, and does not begin from it
        with pytest.raises(FloatingPointError, match="the gradient of step 5 is not a finite number"):
            fit(model, loss, settings("adamw", 9, save_every=3), tmp_path / "s.pt", "x", "x")
        saved = torch.load(tmp_path / "s.pt", weights_only=True)
        assert saved["step"] == 3
        assert all(value.isfinite().all() for value in saved["model"].values())


def test_muon_alone_is_enough_where_nothing_but_matrices_learns(tmp_path: Path) -> None:
    model = toy()
    model.requires_grad_(False)
    model.blocks[0].weight.requires_grad_(True)
    before = weights(model)
    fit(model, objective(model), settings("muon", 3), tmp_path / "s.pt", "toy", "")
    assert [not torch.equal(old, new) for old, new in zip(before, weights(model))] == [True, *[False] * 5]


@pytest.mark.parametrize("size", [(3, 8, 8), (2, 16, 4), (2, 4, 16)])
def test_orthogonal_keeps_singular_vectors_and_levels_singular_values(size: tuple[int, int, int]) -> None:
    matrices = torch.randn(size, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    levelled = u.transpose(1, 2) @ orthogonal(matrices) @ v.transpose(1, 2)
    values = levelled.diagonal(dim1=1, dim2=2)
    assert (values > 0.3).all()
    assert (values < 1.3).all()
    assert (levelled - torch.diag_embed(values)).abs().max() < 1e-3


def test_muon_agrees_with_torch_up_to_its_bfloat16() -> None:
    ours, theirs = (torch.randn(8, 6, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    a, b = Muon([ours], lr=0.02), torch.optim.Muon([theirs], lr=0.02, weight_decay=0.0)
    for step in range(3):
        gradient = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, atol=3e-3, rtol=0)
