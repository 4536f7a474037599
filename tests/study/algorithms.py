"""Every online algorithm from the shipped generator at equal evaluations of the network, beside more pretraining.

    python tests/study/algorithms.py --out runs/alignment --evaluations 32000 --seeds 3 --reward reward.safetensors

It calls nothing but the README's commands, and all of them go on where they were when it is started again. It ends with
a table of all that its record holds: the verifier's strict score on held-out captions, of all runs and of each, its
paired gain over the base, what became of the motion and of the picture, which none of the recipes rewards, and what
simulated people prefer, blind. An evaluation is one sample through the network; a backward pass counts as two. Scoring
is not counted. Without `--reward`, a checkpoint of `make reward-study`, the systems that learn from one are left out.
"""

import argparse
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from learned_reward import paid

from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup
from alignment.verifier import Verifier, VerifierSettings
from models.weights import SHIPPED
from palate.config import load
from palate.gsb import Contests
from palate.records import OVERALL, Comparison, Estimate, Sample, Score
from palate.report import score_difference, score_figure
from palate.report_text import table
from palate.stats.wins import Form
from palate.store import Store
from rewards.programmatic import MOTION, STRICT, VISUAL

RECIPES = Path(__file__).parents[2] / "alignment" / "recipes"
BASE, CONTROL = "base", "more pretraining"
A_CLIP, BATCH = 3, 32  # evaluations of one pretraining clip, clips a step
ANSWERS = 2  # to a case, of each run
PEOPLE = ("people=24", "overlap=2")
HEADS = (
    *("system", "strict, %", "each run", "gain over base, paired", "motion quality", "visual quality"),
    "people's ratio (G+S)/(B+S), SIMULATED",
)

LEARNED = ", learned reward"
# What is compared, and by which algorithm it is taught.
SYSTEMS = {
    "Flow-GRPO": "grpo",
    "DiffusionNFT": "nft",
    "AWM": "awm",
    "online DPO": "online-dpo",
    "RWR": "rwr",
    "RAFT": "sft",
    f"Flow-GRPO{LEARNED}": "grpo",
    f"DiffusionNFT{LEARNED}": "nft",
    CONTROL: "",
}
CAPTIONS = 3000  # drawn for a learned reward, as the verifier draws its own


def palate(*arguments: str) -> None:
    print("$ palate", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "palate", *arguments], check=True)


def asked_anew(out: Path) -> str:
    """What a learned reward is asked about: captions drawn as the verifier draws its own."""
    file = out / "captions.txt"
    file.write_text("\n".join(Verifier(VerifierSettings()).ask(CAPTIONS, 0)) + "\n")
    return f"prompts={file}"


def learn(system: str, seed: int, evaluations: int, out: Path, store: str, reward: Path | None) -> Path:
    """The checkpoint of a run that spends `evaluations`, to within a round; what is there is not made again."""
    folder = out / f"{system.replace(' ', '-')}-{seed}"
    checkpoint = folder / "generator.safetensors"
    if checkpoint.exists():
        return checkpoint
    where = ("--out", str(folder), "--store", store, f"seed={seed}")
    if system == CONTROL:
        told = ("start=shipped", "fit.optimiser=adamw", "fit.lr=3e-4", "fit.ema=0.95", "fit.save_every=50")
        palate("model", "pretrain", *where, *told, f"fit.steps={evaluations // (BATCH * A_CLIP)}")
        return checkpoint
    kind = SYSTEMS[system]
    recipe = RECIPES / f"{kind}.toml"
    settings = load(ALGORITHMS[kind].recipe, recipe, ("device=cpu",))
    rounds = round(evaluations / Setup.of(kind, settings, SHIPPED).plan().evaluations_a_round)
    told = (asked_anew(out), *paid(reward)) if reward and system.endswith(LEARNED) else ()
    palate("align", kind, "--recipe", str(recipe), *where, f"fit.steps={rounds * settings.round_steps}", *told)
    return checkpoint


def compare(system: str, store: str) -> None:
    """Blind, by simulated people, each answer beside one of the base's to the same case."""
    with Store(store) as record:
        if next(record.select(Comparison, study=system), None) is not None:
            return
    sides = ("--candidate", system, "--baseline", BASE, "--suite", "shapes", "--repeat", "0")
    palate("annotate", "plan", "--study", system, *sides, "--store", store)
    palate("annotate", "simulate", "--study", system, *PEOPLE, "--store", store)


def shown(one: Estimate, scale: float = 100, digits: int = 1) -> str:
    numbers = ("–" if x is None else f"{scale * x:.{digits}f}" for x in (one.value, one.low, one.high))
    return "{} [{}, {}]".format(*numbers)


def each_run(record: Store, system: str) -> list[float]:
    """The mean strict score of each checkpoint, in falling order."""
    checkpoints = {one.id: one.checkpoint for one in record.select(Sample, system=system)}
    found = defaultdict[str | None, list[float]](list)
    for score in record.select(Score, scorer=STRICT):
        if score.sample in checkpoints and score.value is not None:
            found[checkpoints[score.sample]].append(score.value)
    return sorted(map(fmean, found.values()), reverse=True)


def preferred(record: Store, system: str) -> str:
    """(G + S) / (B + S) overall, of a system that was compared."""
    counted, parts = Contests(candidate=system), list(record.vote_parts(system, OVERALL))
    for part in parts:
        counted.add(part)
    return shown(counted.found()[0].forms[Form.RATIO], 1, 2) if parts else ""


def row(record: Store, system: str) -> list[str]:
    strict = shown(score_figure(record, STRICT, system, "shapes", "heldout").estimate)
    if system == BASE:
        return [system, strict, "", "", "", "", ""]
    each = ", ".join(f"{100 * value:.1f}" for value in each_run(record, system))
    scorers = (STRICT, MOTION, VISUAL)
    gains = [shown(score_difference(record, scorer, system, BASE, "shapes", "heldout").estimate) for scorer in scorers]
    return [system, strict, each, *gains, preferred(record, system)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/alignment"))
    parser.add_argument("--evaluations", type=int, default=32_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=384)
    parser.add_argument("--reward", type=Path, help="a checkpoint of `palate reward train`")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    told = parser.parse_args()
    systems = [one for one in told.systems if told.reward or not one.endswith(LEARNED)]
    store = str(told.out / "palate.db")
    told.out.mkdir(parents=True, exist_ok=True)
    asked = ("--cases", str(told.cases), "--store", store, "--workers", "1")
    palate("bench", "run", "shapes", "--system", BASE, *asked, "--seeds", str(ANSWERS * told.seeds))
    for seed in range(told.seeds):
        for system in systems:
            checkpoint = learn(system, seed, told.evaluations, told.out, store, told.reward)
            palate("bench", "run", "shapes", "--system", f"{system}={checkpoint}", *asked, "--seeds", str(ANSWERS))
    for system in systems:
        compare(system, store)
    with Store(store) as record:
        known = {one.system for one in record.select(Sample)}
        rows = [row(record, system) for system in (BASE, *SYSTEMS) if system in known]
        print(table(HEADS, rows))
    print(
        f"{told.cases} held-out cases, {ANSWERS} answers of each of {told.seeds} runs of {told.evaluations:,} "
        f"evaluations; 95% intervals over cases, given these runs; of people's ratio over cases and people."
    )


if __name__ == "__main__":
    main()
