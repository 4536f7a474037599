"""From the shipped generator past 90%: nft-long, a guide of each run of it, and as much more pretraining as both.

    python tests/study/guide.py --out runs/guide --seeds 3        # two hours of a core a seed

It calls nothing but the README's commands, which go on where they were when it is started again, and ends with the
table of tests/study/algorithms.py. All systems are drawn as Flow-GRPO's paper draws what it examines, with guidance and
more steps. `--systems` leaves some out.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from algorithms import A_CLIP, ANSWERS, BASE, BATCH, CONTROL, HEADS, RECIPES, compare, palate, row, shown
from PIL import Image

from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup
from models.generator import Generator, SamplerSettings
from models.weights import SHIPPED
from palate import shapes
from palate.config import load
from palate.records import Sample
from palate.report import mean_over_cases
from palate.report_text import table
from palate.store import Store

LONG, LED = "nft-long", "led"
SYSTEMS = (LONG, LED, CONTROL)
DRAWN = SamplerSettings(steps=16, guidance=1.5)
SAMPLER = (f"steps={DRAWN.steps}", f"guidance={DRAWN.guidance:g}")
KINDS = {LONG: "nft", LED: "nrg"}
TOLD = {LONG: RECIPES / "nft-long.toml", LED: RECIPES / "nrg.toml"}


def evaluations() -> float:
    """What a run of nft-long and its guide spend together."""
    spent = 0.0
    for system, kind in KINDS.items():
        plan = Setup.of(kind, load(ALGORITHMS[kind].recipe, TOLD[system], ("device=cpu",)), SHIPPED).plan()
        spent += plan.rounds * plan.evaluations_a_round
    return spent


def learn(system: str, seed: int, out: Path, store: str) -> Path:
    """The checkpoint of a run; what is there is not made again."""
    folder = out / f"{system.replace(' ', '-')}-{seed}"
    checkpoint = folder / "generator.safetensors"
    if checkpoint.exists():
        return checkpoint
    where = ("--out", str(folder), "--store", store)
    if system == CONTROL:
        chances = (f"seed={2 + seed}", f"data_seed={2 + seed}")  # the shipped generator has seen 0 and 1
        told = ("--recipe", str(SHIPPED.with_suffix(".toml")), "start=shipped", "precision=bfloat16")
        palate("model", "pretrain", *where, *told, *chances, f"fit.steps={round(evaluations() / (BATCH * A_CLIP))}")
    else:
        start = ("--weights", str(learn(LONG, seed, out, store))) if system == LED else ()
        palate("align", KINDS[system], "--recipe", str(TOLD[system]), *start, *where, f"seed={seed}")
    return checkpoint


def picture(unled: Path, led: Path, file: Path) -> None:
    """Frames 1, 4 and 8 for eight held-out captions of several things, without and with the guide, of one noise."""
    rng = np.random.default_rng(123)
    captions = [str(shapes.draw_scene(rng, "heldout", ("count",))) for _ in range(8)]
    sides = []
    for checkpoint in (unled, led):
        clips = Generator.load(checkpoint).clips(captions, range(8), DRAWN)
        framed = np.pad(clips[:, [0, 3, 7]], ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
        sides.append(framed.transpose(0, 2, 1, 3, 4).reshape(-1, 3 * framed.shape[3], 3))
    gap = np.full((len(sides[0]), 8, 3), 255, np.uint8)
    whole = Image.fromarray(np.concatenate([sides[0], gap, sides[1]], axis=1))
    whole.resize((3 * whole.width, 3 * whole.height), Image.Resampling.NEAREST).save(file)
    print("\n".join(captions))


def variety(checkpoint: Path) -> str:
    """How samples of a caption differ, and what a clip takes: 24 held-out captions, 16 samples of each."""
    rng = np.random.default_rng(9)
    captions = [str(shapes.draw_scene(rng, "heldout", ("single", "events", "count"))) for _ in range(24)]
    generator, began = Generator.load(checkpoint), time.process_time()
    latents = generator.latents([one for one in captions for _ in range(16)], range(24 * 16), DRAWN)
    took = (time.process_time() - began) / len(latents)
    within = mean_over_cases(latents.unflatten(0, (24, 16)).flatten(2).var(dim=1).mean(dim=1).tolist(), captions)
    return f"variance within a caption {shown(within, 1, 2)}, {took:.3f} CPU seconds a clip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/guide"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=384)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    told = parser.parse_args()
    store = str(told.out / "palate.db")
    told.out.mkdir(parents=True, exist_ok=True)
    asked = ("--cases", str(told.cases), "--store", store, "--workers", "1", "--seeds", str(ANSWERS), *SAMPLER)
    palate("bench", "run", "shapes", "--system", BASE, *asked)
    for seed in range(told.seeds):
        for system in told.systems:
            checkpoint = learn(system, seed, told.out, store)
            palate("bench", "run", "shapes", "--system", f"{system}={checkpoint}", *asked)
    for system in told.systems:
        compare(system, store)
    with Store(store) as record:
        known = {one.system for one in record.select(Sample)}
        print(table(HEADS, [row(record, system) for system in (BASE, *SYSTEMS) if system in known]))
    if {LONG, LED} <= set(told.systems):
        runs = {BASE: SHIPPED, LONG: learn(LONG, 0, told.out, store), LED: learn(LED, 0, told.out, store)}
        for system, checkpoint in runs.items():
            print(f"{system}: {variety(checkpoint)}")
        picture(runs[LONG], runs[LED], told.out / "led.png")
    print(f"{told.cases} held-out cases, {ANSWERS} answers of each run, {' '.join(SAMPLER)}; intervals as above.")


if __name__ == "__main__":
    main()
