"""Where an algorithm's gradient is signal and not noise: by part of the network, at the shipped generator.

    python tests/study/gradients.py --prompts 400 grpo nft awm           (2 to 8 minutes of one core each)

One round is drawn, and each of its prompts gives a gradient of its own. Their mean is what an update follows. Printed
is its squared norm over that of one prompt's deviation from it, both without bias, times 1000: a part at 10 needs 100
prompts for as much signal as noise. Errors are a jackknife over prompts. Nothing is learned in between.

The last row is the length of the round's gradient over that of `held` (alignment/online.py) where every weight has
moved by a deviation of MOVED: the size that `times.hold` has to have for the two to be of a kind.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from noise_times import jackknifed
from torch import Tensor

from alignment.online import Update
from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup
from models.weights import SHIPPED
from palate.config import load
from palate.report_text import table

MOVED = 0.002
RECIPES = Path(__file__).parents[2] / "alignment" / "recipes"
WAYS = ["grpo", "nft", "awm"]


def part_of(name: str) -> str:
    """Layers of one kind are one part: `qkv` for `blocks.3.qkv.weight`."""
    pieces = name.split(".")
    return pieces[2] if pieces[0] == "blocks" else pieces[0]


def measured(kind: str, overrides: list[str]) -> tuple[dict[str, Tensor], float]:
    """Inner products (prompts, prompts) of the prompts' gradients, by part, in the network's order; and what they pull,
    over what holds."""
    setup = Setup.of(kind, load(ALGORITHMS[kind].recipe, RECIPES / f"{kind}.toml", overrides), SHIPPED)
    objective, rollout = setup.objective, setup.objective.draw(0)
    learned = {name: p for name, p in setup.learner.network.named_parameters() if p.requires_grad}
    rows = defaultdict[str, list[Tensor]](list)
    for prompt in range(len(rollout.places)):
        told = (0, True, objective.seed, objective.rollouts.shift, objective.times)
        loss, _ = objective.algorithm.loss(
            Update(objective.policy, setup.learner, rollout, torch.tensor([prompt]), *told)
        )
        for name, gradient in zip(learned, torch.autograd.grad(loss, list(learned.values()))):
            rows[name].append(gradient.flatten())
    found = defaultdict[str, Tensor](lambda: torch.zeros(1))
    for name, gradients in rows.items():
        found[part_of(name)] = found[part_of(name)] + torch.stack(gradients) @ torch.stack(gradients).T
    whole = torch.stack(list(found.values())).sum() / len(rollout.places) ** 2
    with torch.no_grad():
        for p in learned.values():
            p.add_(MOVED * torch.randn(p.shape))
    told = (torch.arange(len(rollout.places)), 0, False, objective.seed, objective.rollouts.shift, objective.times)
    held = torch.autograd.grad(Update(objective.policy, setup.learner, rollout, *told).held(), list(learned.values()))
    return found, float(whole.sqrt() / torch.stack([one.square().sum() for one in held]).sum().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("ways", nargs="*", default=WAYS, help="an algorithm, with key=value over its recipe: a,k=v,k=v")
    told = parser.parse_args()
    columns: dict[str, dict[str, str]] = {}
    for way in told.ways:
        kind, *overrides = way.split(",")
        every = [f"rollout.prompts={told.prompts}", "updates=1", "generator.learned=[]", *overrides]
        parts, pull = measured(kind, every)
        parts = {"all": torch.stack(list(parts.values())).sum(dim=0), **parts}
        ratios = {part: jackknifed(rows) for part, rows in parts.items()}
        columns[way] = {part: f"{1000 * value:.1f} +- {1000 * error:.1f}" for part, (value, error) in ratios.items()}
        columns[way]["pull"] = f"{pull:.2g}"
    (first, *_) = columns.values()
    print(table(["part", *columns], [[part, *(column[part] for column in columns.values())] for part in first]))
    print(f"{told.prompts} prompts, one round each; signal to noise of one prompt's gradient, x 1000")


if __name__ == "__main__":
    main()
