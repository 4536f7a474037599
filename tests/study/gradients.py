"""How much of each algorithm's gradient is signal: the cosine between gradients of independent rounds at the base.

    python tests/study/gradients.py --kinds grpo awm --rounds 4

The cosine of two estimates of one gradient is, on average, signal / (signal + noise) in squared length, so its ratio
between two algorithms says how many times the samples the one needs to see as clearly as the other. Every round has
prompts and noise of its own, and the same number of samples; nothing is learned in between.
"""

import argparse
from itertools import combinations
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor

from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup
from models.weights import SHIPPED
from palate.config import load

RECIPES = Path(__file__).parents[2] / "alignment" / "recipes"


def gradients(kind: str, rounds: int, prompts: int, group: int) -> list[Tensor]:
    told = (f"rollout.prompts={prompts}", f"rollout.group={group}", "rollout.steps=6", "updates=1")
    setup = Setup.of(kind, load(ALGORITHMS[kind].recipe, RECIPES / f"{kind}.toml", told), SHIPPED)
    found = []
    for number in range(rounds):
        setup.learner.zero_grad()
        loss, watched = setup.objective(number)
        loss.backward()
        print(f"{kind}, round {number}: mean reward {float(watched['reward_mean']):.3f}", flush=True)
        learned = [p for p in setup.learner.network.parameters() if p.grad is not None]
        found.append(torch.cat([p.grad.flatten() for p in learned if p.grad is not None]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(ALGORITHMS))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--group", type=int, default=16)
    told = parser.parse_args()
    for kind in told.kinds:
        found = gradients(kind, told.rounds, told.prompts, told.group)
        cosines = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in combinations(found, 2)]
        error = stdev(cosines) / sqrt(len(cosines))  # rough: pairs share rounds
        print(f"{kind}: cosine {fmean(cosines):.3f} +- {error:.3f}, {len(cosines)} pairs of rounds", flush=True)


if __name__ == "__main__":
    main()
