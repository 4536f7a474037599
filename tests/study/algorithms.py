"""Every online algorithm from the shipped generator at equal evaluations of the network, beside more pretraining.

    python tests/study/algorithms.py --out runs/alignment --evaluations 32000 --seeds 3

It calls nothing but the README's commands, and all of them go on where they were when it is started again. It ends with
a table of all that its record holds: the verifier's strict score on held-out captions, of all runs and of each, its
paired gain over the base, and what became of the motion and of the picture, which none of the recipes rewards. An
evaluation is one sample through the network; a backward pass counts as two. Scoring is not counted.
"""

import argparse
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup
from models.weights import SHIPPED
from palate.config import load
from palate.records import Figure, Sample, Score
from palate.report import score_difference, score_figure
from palate.report_text import table
from palate.store import Store
from rewards.programmatic import MOTION, STRICT, VISUAL

RECIPES = Path(__file__).parents[2] / "alignment" / "recipes"
BASE, CONTROL = "base", "more pretraining"
A_CLIP, BATCH = 3, 32  # evaluations of one pretraining clip, clips a step


def palate(*arguments: str) -> None:
    print("$ palate", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "palate", *arguments], check=True)


def learn(kind: str, seed: int, evaluations: int, out: Path, store: str) -> Path:
    """The folder of a run that spends `evaluations`, to within a round; what is there already is not made again."""
    folder = out / f"{kind.replace(' ', '-')}-{seed}"
    if (folder / "generator.safetensors").exists():
        return folder
    where = ("--out", str(folder), "--store", store, f"seed={seed}")
    if kind == CONTROL:
        told = ("start=shipped", "fit.optimiser=adamw", "fit.lr=3e-4", "fit.ema=0.95", "fit.save_every=50")
        palate("model", "pretrain", *where, *told, f"fit.steps={evaluations // (BATCH * A_CLIP)}")
        return folder
    recipe = RECIPES / f"{kind}.toml"
    settings = load(ALGORITHMS[kind].recipe, recipe, ("device=cpu",))
    rounds = round(evaluations / Setup.of(kind, settings, SHIPPED).plan().evaluations_a_round)
    palate("align", kind, "--recipe", str(recipe), *where, f"fit.steps={rounds * settings.updates}")
    return folder


def shown(figure: Figure) -> str:
    value, low, high = figure.estimate.value, figure.estimate.low, figure.estimate.high
    return (
        "–"
        if value is None or low is None or high is None
        else f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    )


def each_run(record: Store, system: str) -> list[float]:
    """The mean strict score of each checkpoint, in falling order."""
    checkpoints = {one.id: one.checkpoint for one in record.select(Sample, system=system)}
    found = defaultdict[str | None, list[float]](list)
    for score in record.select(Score, scorer=STRICT):
        if score.sample in checkpoints and score.value is not None:
            found[checkpoints[score.sample]].append(score.value)
    return sorted(map(fmean, found.values()), reverse=True)


def row(record: Store, system: str) -> list[str]:
    strict = shown(score_figure(record, STRICT, system, "shapes", "heldout"))
    if system == BASE:
        return [system, strict, "", "", "", ""]
    each = ", ".join(f"{100 * value:.1f}" for value in each_run(record, system))
    scorers = (STRICT, MOTION, VISUAL)
    gains = [shown(score_difference(record, scorer, system, BASE, "shapes", "heldout")) for scorer in scorers]
    return [system, strict, each, *gains]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/alignment"))
    parser.add_argument("--evaluations", type=int, default=32_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=384)
    parser.add_argument("--kinds", nargs="+", default=[*ALGORITHMS, CONTROL])
    told = parser.parse_args()
    store = str(told.out / "palate.db")
    told.out.mkdir(parents=True, exist_ok=True)
    asked = ("--cases", str(told.cases), "--seeds", "2", "--store", store, "--workers", "1")
    palate("bench", "run", "shapes", "--system", BASE, *asked)
    for seed in range(told.seeds):
        for kind in told.kinds:
            checkpoint = learn(kind, seed, told.evaluations, told.out, store) / "generator.safetensors"
            palate("bench", "run", "shapes", "--system", f"{kind}={checkpoint}", *asked)
    heads = ["system", "strict, %", "each run", "gain over base, paired", "motion quality", "visual quality"]
    with Store(store) as record:
        known = {one.system for one in record.select(Sample)}
        print(table(heads, [row(record, system) for system in (BASE, *ALGORITHMS, CONTROL) if system in known]))
    print(
        f"{told.cases} held-out cases, two answers of each run; runs of {told.evaluations:,} evaluations; "
        "95% intervals over cases, given these runs."
    )


if __name__ == "__main__":
    main()
