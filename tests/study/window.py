"""How much sooner Flow-GRPO is there with a step window: CPU seconds to the same reward on held-out captions.

    python tests/study/window.py --out runs/window --seeds 9      # 80 minutes of a core; --arms window: 15

The reward is how clean the picture is, which Flow-GRPO learns from in minutes (of a whole caption it does not: README).
One arm learns from one random step on a shared path (the window, "Fast"), the other from all steps but the last, each
sample on a path of its own, as the paper's first recipe does; all else is the same. What a step takes is timed without
looks, one arm after the other, so that whatever else the machine does meets both. Between two looks the reward is taken
to rise evenly. No run ends with a cooldown, so how long it is changes nothing of its beginning.

A run that is not there by its last look tells that it took longer. So arms are compared by how many runs arrive for a
CPU second, and by the ratio of those rates (statsmodels' score interval of two Poisson counts).
"""

import argparse
import itertools
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from learned_reward import captions, shown
from numpy.typing import NDArray
from statsmodels.stats.rates import confint_poisson_2indep

from palate.records import Estimate
from palate.report_text import table
from rewards.alarm import over_prompts, read_looks

RECIPE = Path(__file__).parents[2] / "alignment" / "recipes" / "grpo.toml"
LATE = 3  # of five steps; a picture is cleaned late
ARMS = {
    "window": (f"grpo.window.first={LATE}", f"grpo.window.last={LATE}"),
    "all steps": (
        "grpo.window.first=0",
        "grpo.window.last=0",
        "grpo.window.width=4",
        "grpo.window.branch=false",
    ),
}
STEPS = {"window": 60, "all steps": 36}  # optimiser steps of a run: enough to be there
PAID = ("reward.strict=0", "reward.fraction=0", "reward.visual=1", "times.hold=0", "fit.cooldown=0", "fit.ema=0")
PAID += ("trackers=[]", "show_every=0")
GOLD = ("looks.gold.strict=0", "looks.gold.fraction=0", "looks.gold.visual=1", "looks.alarm.level=0")
TIMED = (2, 7)  # optimiser steps of a short and of a longer run: what lies between them is timed


def palate(*arguments: str) -> float:
    """CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "palate", *arguments], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def looks(out: Path, arm: str, seed: int, told: argparse.Namespace) -> list[NDArray[np.float64]]:
    """At each look, the reward of every held-out caption."""
    folder = out / f"{arm.replace(' ', '-')}-{seed}"
    if not (folder / "generator.safetensors").exists():
        held = out / "held-out.txt"
        held.write_text("\n".join(map(str, captions(told.captions, "heldout", 3))) + "\n")
        planned = -(-STEPS[arm] // told.every)
        seen = (f"looks.file={held}", f"looks.prompts={told.captions}", f"looks.every={told.every}")
        length = (f"fit.steps={STEPS[arm]}", f"fit.lr={told.lr}", f"seed={seed}", f"looks.alarm.looks={planned}")
        where = ("--recipe", str(RECIPE), "--out", str(folder), "--store", str(out / "palate.db"))
        palate("align", "grpo", *where, *PAID, *GOLD, *ARMS[arm], *seen, *length)
    return [gold for gold, _ in read_looks(folder / "looks.csv")]


def seconds_a_step(out: Path, told: argparse.Namespace) -> dict[str, float]:
    """Of each arm, from runs of two lengths that are not looked at."""
    file = out / f"timed-{'-'.join(told.arms).replace(' ', '-')}.csv"
    if not file.exists():
        rows = []
        for again, arm in itertools.product(range(told.timings), told.arms):
            spent = []
            for steps in TIMED:
                with TemporaryDirectory() as folder:  # a run that is there would not be made again
                    where = ("--recipe", str(RECIPE), "--out", f"{folder}/run", "--store", f"{folder}/palate.db")
                    length = (f"fit.steps={steps}", f"fit.lr={told.lr}", f"seed={again}")
                    spent.append(palate("align", "grpo", *where, *PAID, *ARMS[arm], *length))
            rows.append({"arm": arm, "seconds": (spent[1] - spent[0]) / (TIMED[1] - TIMED[0])})
        pd.DataFrame(rows).to_csv(file, index=False)
    return pd.read_csv(file).groupby("arm")["seconds"].median().to_dict()


def reached(curve: NDArray[np.float64], every: int, target: float) -> tuple[float, bool]:
    """The step at which the mean first reaches the target; of one that does not the last look's, and False."""
    above = np.flatnonzero(curve >= target)
    if not len(above):
        return every * (len(curve) - 1), False
    at = int(above[0])
    return every * (at - 1 + (target - curve[at - 1]) / (curve[at] - curve[at - 1])), True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/window"))
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--captions", type=int, default=192)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--gain", type=float, default=0.04, help="of the reward, 0 to 1, that both have to reach")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--timings", type=int, default=3)
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    seconds = seconds_a_step(told.out, told)
    rows, arrived, spent = [], dict.fromkeys(told.arms, 0), dict.fromkeys(told.arms, 0.0)
    for seed in range(told.seeds):
        for arm in told.arms:
            seen = looks(told.out, arm, seed, told)
            means = np.array([one.mean() for one in seen])
            step, there = reached(means, told.every, means[0] + told.gain)
            gain = over_prompts(seen[-1] - seen[0], "gain, paired over prompts")
            arrived[arm] += there
            spent[arm] += step * seconds[arm]
            not_yet = "" if there else "over "
            cells = [f"{not_yet}{step:.1f}", f"{seconds[arm]:.2f}", f"{not_yet}{step * seconds[arm]:.0f}"]
            rows.append([str(seed), arm, shown(gain), *cells])
    heads = ["seed", "learns from", "gained by the last look", f"steps to +{told.gain}", "CPU s a step", "CPU s"]
    print(table(heads, rows))
    for arm in told.arms:
        print(f"{arm}: {arrived[arm]} of {told.seeds} runs arrive, in {spent[arm]:.0f} CPU seconds")
    if len(told.arms) == len(ARMS) and all(arrived.values()):
        print(f"arrivals a CPU second, window over all steps: {shown(faster(arrived, spent, told.seeds))} seeds")


def faster(arrived: dict[str, int], spent: dict[str, float], seeds: int) -> Estimate:
    """The ratio of two rates, which is that of mean times to arrival where these are exponential."""
    (few, long), (many, short) = ((arrived[arm], spent[arm]) for arm in ("all steps", "window"))
    low, high = confint_poisson_2indep(many, short, few, long, compare="ratio", method="score")
    value = many / short / (few / long)
    return Estimate(value=value, low=float(low), high=float(high), n=seeds, method="ratio of rates, score")


if __name__ == "__main__":
    main()
