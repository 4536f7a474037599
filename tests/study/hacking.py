"""What becomes of a weak reward that is optimised too hard, and when does the alarm ring? In docs/rewards.md.

    python tests/study/hacking.py --out runs/hacking --seeds 3

A reward is taught on a few pairs, and AWM optimises it to the end, while a look is taken every few steps. The alarm is
told of the looks afterwards, one by one (`palate reward alarm`), and says when it would have stopped the run, as it
does where `looks.alarm.level` is not 0. What had been lost by then is measured on held-out captions that it knows
nothing of.

Learning and looking are the README's commands, and what is done is not done again.
"""

import argparse
import itertools
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
from learned_reward import KNOWN, captions, collect, shown
from numpy.typing import NDArray
from tqdm import tqdm

from models.generator import Generator, SamplerSettings
from models.weights import SHIPPED
from palate import shapes
from palate.records import Comparison
from palate.report_text import table
from palate.store import Store
from rewards.alarm import AlarmSettings, HackingAlarm, Look, over_prompts, read_looks

DOCS = Path(__file__).parents[2] / "docs"
FEW, ASKED = 40, 600  # captions that the reward is taught on, and that the generator is taught with
PROMPTS = 640  # captions of a look
HELD_OUT = 384  # captions; there are 401
SAMPLER = SamplerSettings(steps=4)
WEAK = ("layers=2", "fit.steps=100", "fit.lr=1e-3", "fit.warmup=10", "prompts=4", "every=25", "patience=3")
HARD = ("updates=2", "rollout.prompts=6", "rollout.group=8", f"rollout.steps={SAMPLER.steps}")
HARD += ("fit.ema=0", "fit.warmup=1", "trackers=[]", "show_every=0", f"looks.prompts={PROMPTS}", "looks.alarm.level=0")
OF = {"fraction": "share of checks that hold, %", "strict": "every check holds, %"}  # what the verifier says


@dataclass(frozen=True)
class Plan:
    """A run: its gold, how many looks, the optimiser steps between two, and the learning rate."""

    gold: str
    looks: int
    every: int
    lr: float

    def told(self) -> list[str]:
        gold = [f"looks.gold.{name}={int(name == self.gold)}" for name in OF]
        looks = [f"looks.every={self.every}", f"looks.alarm.looks={self.looks}"]
        return [*gold, *looks, f"fit.lr={self.lr}", f"fit.steps={self.looks * self.every}"]


def palate(*arguments: str) -> None:
    print("$ palate", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "palate", *arguments], check=True)


def teach(out: Path, store: str) -> Path:
    """The weak reward."""
    path = out / "weak" / "reward.safetensors"
    if not path.exists():
        with Store(store) as record:
            if next(record.select(Comparison, study="few"), None) is None:
                collect(record, captions(FEW, "train", 0), KNOWN, "few", 0)
        palate("reward", "train", "--study", "few", "--store", store, "--out", str(path.parent), *WEAK)
    return path


def optimise(out: Path, store: str, weak: Path, seed: int, plan: Plan) -> Path:
    """The folder of a run that optimises it, with all its looks."""
    folder, prompts = out / f"{plan.gold}-{seed}", out / "prompts.txt"
    if not (folder / "generator.safetensors").exists():
        prompts.write_text("\n".join(map(str, captions(ASKED, "train", 1))) + "\n")
        line = f'[{{kind="trained", path="{weak}", standardise=false, device="cpu"}}]'
        paid = ("reward.kind=measured", f"reward.rewards={line}", 'reward.terms={"video_reward.overall"={}}')
        where = ("--store", store, "--out", str(folder), f"seed={seed}", f"prompts={prompts}")
        palate("align", "awm", *where, *paid, *HARD, *plan.told())
    return folder


def watched(folder: Path, plan: Plan) -> list[Look]:
    watch = HackingAlarm(AlarmSettings(looks=plan.looks))
    for gold, proxy in read_looks(folder / "looks.csv"):
        watch.look(gold, proxy)
    return watch.history


def checked(clips: NDArray[np.uint8], scenes: Sequence[shapes.Scene]) -> NDArray[np.float64]:
    """(clips, 2): the share of a caption's checks that hold, and whether all do."""
    checks = [shapes.check(shapes.observe(clip), scene) for clip, scene in zip(clips, scenes)]
    return np.array([(one.fraction, one.strict) for one in checks], float)


def answered(path: Path, asked: Sequence[shapes.Scene], times: int) -> NDArray[np.float64]:
    """(captions, times, 2): `checked`, under other noise each time."""
    generator, found = Generator.load_for_worker(path), np.empty((len(asked), times, 2))
    for time, start in tqdm(list(itertools.product(range(times), range(0, len(asked), 64))), desc="answered"):
        part = asked[start : start + 64]
        seeds = range(time * len(asked) + start, time * len(asked) + start + len(part))
        clips = generator.clips([str(scene) for scene in part], seeds, SAMPLER)
        found[start : start + len(part), time] = checked(clips, part)
    return found


def drawn(history: list[Look], run: str, plan: Plan) -> pd.DataFrame:
    """A row for each look and reward, with its interval."""
    rows = []
    for look in history:
        for name, one, scale in (
            (f"verifier: {OF[plan.gold]}", look.gold, 100),
            ("proxy, logits", look.proxy, 1),
        ):
            value, low, high = (scale * x for x in (one.value, one.low, one.high))
            rows.append([run, look.look * plan.every, name, value, low, high])
    return pd.DataFrame(rows, columns=["run", "step", "of", "value", "low", "high"])


def picture(looks: pd.DataFrame, rings: dict[str, int]) -> alt.VConcatChart:
    upright = pd.DataFrame({"run": list(rings), "step": list(rings.values())})
    x, color = alt.X("step:Q", title="optimiser steps"), alt.Color("run:N", title=None)
    panels = []
    for name in looks["of"].unique():
        base = alt.Chart(looks[looks["of"] == name], width=560, height=220)
        bars = base.mark_rule(opacity=0.5).encode(x=x, y="low:Q", y2="high:Q", color=color)
        y = alt.Y("value:Q", title=name, scale=alt.Scale(zero=False))
        lines = base.mark_line(point=True).encode(x=x, y=y, color=color)
        rule = alt.Chart(upright).mark_rule(strokeDash=[4, 3]).encode(x="step:Q", color=color)
        panels.append(bars + lines + rule)
    return alt.vconcat(*panels).properties(title="Dashed: the alarm rings. Bars: 95% intervals over captions.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/hacking"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--answers", type=int, default=2, help="to each held-out caption")
    parser.add_argument("--gold", choices=list(OF), default="strict", help="what the alarm watches")
    parser.add_argument("--looks", type=int, default=12)
    parser.add_argument("--every", type=int, default=2, help="optimiser steps between two looks")
    parser.add_argument("--lr", type=float, default=2e-4)
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    store, plan = str(told.out / "palate.db"), Plan(told.gold, told.looks, told.every, told.lr)
    weak = teach(told.out, store)
    asked, looks, rings, rows = captions(HELD_OUT, "heldout", 3), [], {}, []
    folders = [optimise(told.out, store, weak, seed, plan) for seed in range(told.seeds)]
    base = answered(SHIPPED, asked, told.answers).mean(axis=1)
    for seed, folder in enumerate(folders):
        history = watched(folder, plan)
        looks.append(drawn(history, f"seed {seed}", plan))
        ring = next((one for one in history if one.state != "calm"), history[-1])
        rings |= {f"seed {seed}": ring.look * plan.every} if ring.state != "calm" else {}
        at = {"then": folder / "looks" / str(ring.look), "to go back to": folder / "looks" / str(ring.stop)}
        for name, place in {**at, "the end": folder}.items():
            lost = base - answered(place / "generator.safetensors", asked, told.answers).mean(axis=1)
            shares = [shown(over_prompts(column, "lost, paired over captions")) for column in lost.T]
            rows.append([str(seed), f"{ring.state} at look {ring.look}, back to {ring.stop}", name, *shares])
    print(table(["seed", "alarm", "where", "checks that hold, lost since the start", "strict, lost"], rows))
    picture(pd.concat(looks), rings).save(DOCS / f"hacking-{plan.gold}.png", scale_factor=2)


if __name__ == "__main__":
    main()
