"""What the rewards of its own samples teach a value of noisy states, and what following it gains before anybody learns.

    python tests/study/value.py --weights runs/nft-long --steps 400 'reward.families=["count"]'    (8 minutes of a core)

The policy stays as it is; only the value learns, for `--steps` optimiser steps of value.toml. Then, on held-out
captions: how well it tells at each step which clips will be right (AUC, over all of them), and how many are right if
the sampler follows its gradient, at several strengths, from the same noise. Gains are paired, with 95% t-intervals.
"""

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.stats import mannwhitneyu, ttest_1samp, ttest_rel
from torch import Tensor

from alignment.algorithms.value import guidance
from alignment.online import like
from alignment.recipe import ValueRecipe
from alignment.reinforce import Setup
from alignment.rollout import generator_of
from alignment.verifier import Verifier, VerifierSettings
from models import flow
from models.weights import SHIPPED
from palate import shapes
from palate.config import load
from palate.report_text import table

RECIPE = Path(__file__).parents[2] / "alignment" / "recipes" / "value.toml"
STRENGTHS = (0.0, 1.0, 3.0, 6.0, 12.0)
NOISE = 7  # seed of the examination's


def followed(setup: Setup, captions: list[str], strength: float) -> tuple[Tensor, dict[float, Tensor]]:
    """The rewards (captions,) of one sample each, and the log-odds at each noise time of the window."""
    policy, learner, told = setup.objective.policy, setup.learner, setup.recipe
    assert isinstance(told, ValueRecipe)
    assert learner.critic is not None
    window, conditions = told.value.window, policy.conditions(captions)
    x, odds = policy.noise(len(captions), generator_of(NOISE)), dict[float, Tensor]()
    times = flow.grid(told.rollout.steps, told.rollout.shift)
    for index, (now, after) in enumerate(pairwise(times)):
        t = torch.full((len(captions),), now)
        with torch.no_grad():
            x0 = x - like(t, x) * policy.velocity(learner.network, x, t, conditions)
        if window.first <= index < window.last + window.width:
            led = x.requires_grad_(True)
            logit = learner.critic(policy, led, t, conditions)
            x0 = x0 + guidance(logit, led, t, strength)
            x, odds[now] = x.detach(), logit.detach()
        x = x0 + (x - x0) * (after / now)
    return torch.from_numpy(setup.objective.reward(captions, policy.clips(x).numpy())), odds


def shown(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="what `palate align` wrote, or a checkpoint")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--captions", type=int, default=320)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    weights = given.weights / "generator.safetensors" if given.weights.is_dir() else given.weights
    only = (f"fit.steps={given.steps}", f"value.lead={given.steps}", "fit.ema=0", "trackers=[]", "show_every=0")
    setup = Setup.of("value", load(ValueRecipe, RECIPE, (*only, *given.overrides)), weights)
    assert isinstance(setup.recipe.reward, VerifierSettings)
    with tempfile.TemporaryDirectory() as folder:
        setup.run(Path(folder))
    rng = np.random.default_rng(NOISE)
    families = setup.recipe.reward.families
    captions = [str(shapes.draw_scene(rng, "heldout", families)) for _ in range(given.captions)]
    assert isinstance(setup.objective.reward, Verifier)
    plain, odds = followed(setup, captions, STRENGTHS[0])
    right = plain > plain.min()
    rows = []
    for time, logit in odds.items():
        wins = mannwhitneyu(logit[right].numpy(), logit[~right].numpy()).statistic
        rows.append([f"{time:.3f}", f"{wins / (int(right.sum()) * int((~right).sum())):.2f}"])
    print(table(["noise time", "AUC"], rows))
    rows = []
    for strength in STRENGTHS:
        reward = followed(setup, captions, strength)[0].numpy()
        mean, gain = ttest_1samp(reward, 0), ttest_rel(reward, plain.numpy())
        gained = shown((reward - plain.numpy()).mean(), *gain.confidence_interval()) if strength else ""
        rows.append([f"{strength:g}", shown(reward.mean(), *mean.confidence_interval()), gained])
    print(table(["strength", "reward, %", "gain, paired"], rows))


if __name__ == "__main__":
    main()
