"""Rows at a time, and random steps one by one: no algorithm's gradient depends on them, and memory does."""

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from alignment.algorithms import grpo
from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup
from palate.config import load

TOLD = ("rollout.prompts=2", "rollout.group=3", "rollout.steps=5", "trackers=[]", "show_every=0")
WINDOW = ("grpo.window.width=2", "grpo.window.last=0", "grpo.window.branch=false", "grpo.kl=0.1")
MORE = {"grpo": WINDOW, "nft": ("nft.kl=0.1",), "awm": ("times.split=0.5", "times.hold=1.0"), "nrg": ("nrg.right=0.0",)}


def setup(kind: str, base: Path, *told: str) -> Setup:
    """Paid by numbers that do not depend on the clips, so that rounding there decides nothing."""
    made = Setup.of(kind, load(ALGORITHMS[kind].recipe, None, (*TOLD, *MORE.get(kind, ()), *told)), base)
    rng = np.random.default_rng(0)
    made.objective.reward = lambda prompts, clips: rng.standard_normal(len(clips))
    if made.learner.guide:  # at first it says nothing, whatever its network predicts
        torch.nn.init.ones_(made.learner.guide.weigh.weight)
    return made


def gradient(made: Setup) -> torch.Tensor:
    made.objective(0)[0].backward()
    found = [p.grad for p in made.learner.parameters()]
    return torch.cat([one.flatten() for one in found if one is not None])


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_the_gradient_of_no_algorithm_depends_on_how_many_rows_go_through_the_network(kind: str, base: Path) -> None:
    whole, *others = (gradient(setup(kind, base, f"rollout.batch={batch}")) for batch in (0, 1, 4))
    assert whole.norm() > 0
    for other in others:
        assert (other - whole).norm() < 1e-3 * whole.norm()


@pytest.mark.parametrize("batch", [0, 1, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_ratio_is_exactly_1_whatever_the_network_computes_in(dtype: str, batch: int, base: Path) -> None:
    made = setup("grpo", base, f"generator.dtype={dtype}", f"rollout.batch={batch}", "grpo.clip=1e-12")
    assert made.objective(0)[1]["approx_kl"] == 0


def peak(made: Setup) -> int:
    """The most bytes that are kept at once for a backward pass, beside weights."""
    weights = {p.untyped_storage().data_ptr() for p in made.learner.network.parameters()}
    now = most = 0

    class Kept:
        def __init__(self, saved: torch.Tensor) -> None:
            self.saved = saved

    def note(saved: torch.Tensor) -> Kept:
        nonlocal now, most
        kept, size = Kept(saved), saved.numel() * saved.element_size()
        if saved.untyped_storage().data_ptr() not in weights:
            now += size
            most = max(most, now)
            weakref.finalize(kept, forget, size)
        return kept

    def forget(size: int) -> None:
        nonlocal now
        now -= size

    made.objective.draw(0)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept.saved):
        made.objective(0)[0].backward()
    return most


def test_a_wider_window_keeps_no_more_for_its_backward_pass_and_has_the_same_gradient(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, four = (setup("grpo", base, f"grpo.window.width={width}") for width in (1, 4))
    kept = peak(one)
    assert peak(four) < 1.05 * kept
    by_steps = gradient(setup("grpo", base, "grpo.window.width=4"))
    monkeypatch.setattr(grpo, "one_by_one", lambda loss, parts: sum(map(loss, parts)))
    assert peak(setup("grpo", base, "grpo.window.width=4")) > 3.5 * kept
    at_once = gradient(setup("grpo", base, "grpo.window.width=4"))
    assert (by_steps - at_once).norm() < 1e-5 * at_once.norm()
