"""What becomes of a weak reward that is optimised too hard, and when does the alarm ring? In docs/rewards.md.

    python tests/study/hacking.py --out runs/hacking

A reward is taught on a few pairs, and AWM optimises it, twice from the same start with the same chances. One run is
watched: a look every few steps at captions that it does not learn with, and the alarm stops it. The other is let go on
to the end, as if nobody had listened: until the alarm rings the two have the same weights. What had been lost by then,
and what at the end, is measured on held-out captions that the alarm knows nothing of. `--control` pays for the verifier
itself instead, which an alarm on the verifier should leave alone.

Learning and looking are the README's commands, and what is done is not done again.
"""

import argparse
import itertools
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import altair as alt
import numpy as np
import pandas as pd
from learned_reward import KNOWN, captions, collect, paid, shown
from numpy.typing import NDArray
from tqdm import tqdm

from models.generator import Generator, SamplerSettings
from models.weights import SHIPPED
from palate import shapes
from palate.records import Comparison
from palate.report_text import table
from palate.store import Store
from rewards.alarm import AlarmSettings, HackingAlarm, Look, PerPrompt, over_prompts, read_looks

DOCS = Path(__file__).parents[2] / "docs"
FEW, ASKED = 40, 600  # captions that the reward is taught on, and that the generator is taught with
HELD_OUT = 384  # captions; there are 401
SAMPLER = SamplerSettings(steps=4)
WEAK = ("layers=2", "fit.steps=100", "fit.lr=1e-3", "fit.warmup=10", "prompts=4", "every=25", "patience=3")
HARD = ("updates=2", "rollout.prompts=6", "rollout.group=8", f"rollout.steps={SAMPLER.steps}")
HARD += ("fit.ema=0", "fit.warmup=1", "fit.cooldown=0", "trackers=[]", "show_every=0")
HARD += ("looks.gold.strict=1", "looks.gold.fraction=0")
Kind = Literal["watched", "let go"]


@dataclass(frozen=True)
class Plan:
    """A run: optimiser steps, of which both `every` and `seldom` are divisors, and their size; when it is looked at.

    The watched one is looked at every `every` steps, at `captions`, `times` answers each; the other every `seldom`
    steps, at `fewer` answers.
    """

    steps: int
    lr: float
    every: int
    captions: int
    times: int
    seldom: int
    fewer: int

    @property
    def looks(self) -> int:
        """Of the run that is watched, the first among them."""
        return self.steps // self.every

    def told(self, kind: Kind) -> list[str]:
        every, prompts, level = (
            (self.every, self.times * self.captions, 0.05) if kind == "watched" else (self.seldom, self.fewer, 0.0)
        )
        looks = [f"looks.every={every}", f"looks.prompts={prompts}", f"looks.alarm.level={level}"]
        return [*looks, f"looks.alarm.looks={self.steps // every}", f"fit.steps={self.steps}", f"fit.lr={self.lr}"]


def palate(*arguments: str) -> int:
    print("$ palate", *arguments, flush=True)
    return subprocess.run([sys.executable, "-m", "palate", *arguments]).returncode


def teach(out: Path, store: str) -> Path:
    """The weak reward."""
    path = out / "weak" / "reward.safetensors"
    if not path.exists():
        with Store(store) as record:
            if next(record.select(Comparison, study="few"), None) is None:
                collect(record, captions(FEW, "train", 0), KNOWN, "few", 0)
        assert palate("reward", "train", "--study", "few", "--store", store, "--out", str(path.parent), *WEAK) == 0
    return path


def optimise(out: Path, store: str, reward: Sequence[str], seed: int, plan: Plan, kind: Kind) -> Path:
    """The folder of a run, with its looks; the one that is watched ends where the alarm stops it."""
    folder = out / f"{kind.replace(' ', '-')}-{seed}"
    if not (folder / "generator.safetensors").exists() and not rings(folder, plan):
        files = {"prompts": captions(ASKED, "train", 1), "looks.file": plan.times * unlearned(plan.captions)}
        for name, scenes in files.items():
            (out / f"{name}.txt").write_text("\n".join(map(str, scenes)) + "\n")
        where = ("--store", store, "--out", str(folder), f"seed={seed}")
        told = (*(f"{name}={out / name}.txt" for name in files), *reward, *HARD, *plan.told(kind))
        status = palate("align", "awm", *where, *told)
        assert status == (2 if rings(folder, plan) else 0), status
    return folder


def unlearned(count: int) -> list[shapes.Scene]:
    """Captions of the train split that the generator is not taught with."""
    learned = set(captions(ASKED, "train", 1))
    return [scene for scene in captions(ASKED + count, "train", 2) if scene not in learned][:count]


def seen(folder: Path, plan: Plan) -> list[Look]:
    """What the alarm found at each look of a watched run."""
    watch = HackingAlarm(AlarmSettings(looks=plan.looks))
    for gold, proxy in read_looks(folder / "looks.csv"):
        watch.look(gold, proxy)
    return watch.history


def rings(folder: Path, plan: Plan) -> bool:
    watched = folder.name.startswith("watched") and (folder / "looks.csv").exists()
    return watched and seen(folder, plan)[-1].state != "calm"


def checked(clips: NDArray[np.uint8], scenes: Sequence[shapes.Scene]) -> NDArray[np.float64]:
    """(clips, 2): whether all of a caption's checks hold, and their share."""
    checks = [shapes.check(shapes.observe(clip), scene) for clip, scene in zip(clips, scenes)]
    return np.array([(one.strict, one.fraction) for one in checks], float)


def answered(path: Path, asked: Sequence[shapes.Scene], times: int) -> NDArray[np.float64]:
    """(captions, times, 2): `checked`, under other noise each time. What is done lies beside the checkpoint."""
    kept = path.parent / f"answered-{len(asked)}-{times}.npy"
    if path != SHIPPED and kept.exists():
        return np.load(kept)
    generator, found = Generator.load_for_worker(path), np.empty((len(asked), times, 2))
    for time, start in tqdm(list(itertools.product(range(times), range(0, len(asked), 64))), desc="answered"):
        part = asked[start : start + 64]
        seeds = range(time * len(asked) + start, time * len(asked) + start + len(part))
        clips = generator.clips([str(scene) for scene in part], seeds, SAMPLER)
        found[start : start + len(part), time] = checked(clips, part)
    if path != SHIPPED:
        np.save(kept, found)
    return found


def lost(base: NDArray[np.float64], path: Path, asked: Sequence[shapes.Scene]) -> NDArray[np.float64]:
    """(captions, 2): points of `checked` lost since the start, of each caption."""
    return 100 * (base - answered(path, asked, base.shape[1])).mean(axis=1)


def changes(looks: Sequence[tuple[PerPrompt, PerPrompt]], every: int, run: str, kind: Kind) -> pd.DataFrame:
    """A row for each look and reward: what it gained since the first look, paired over captions."""
    rows = []
    for number, look in enumerate(looks[1:], 1):
        for place, (name, scale) in enumerate({"verifier, points": 100, "proxy, logits": 1}.items()):
            one = over_prompts(scale * (look[place] - looks[0][place]), "gain, paired over prompts")
            rows.append([run, kind, number * every, name, one.value, one.low, one.high])
    return pd.DataFrame(rows, columns=["run", "kind", "step", "of", "value", "low", "high"])


def picture(looks: pd.DataFrame, rang: dict[str, int]) -> alt.VConcatChart:
    """Colour-blind safe: the runs of Okabe and Ito's colours have shapes of their own."""
    runs = sorted(set(looks["run"]))
    upright = pd.DataFrame({"run": list(rang), "step": list(rang.values())})
    x = alt.X("step:Q", title="optimiser steps")
    color = alt.Color("run:N", title=None, scale=alt.Scale(domain=runs, range=["#0072B2", "#D55E00", "#009E73"]))
    shape = alt.Shape("run:N", title=None, scale=alt.Scale(domain=runs))
    dash = alt.StrokeDash("kind:N", title=None, scale=alt.Scale(domain=["watched", "let go"], range=[[1, 0], [2, 2]]))
    panels = []
    for name in looks["of"].unique():
        base = alt.Chart(looks[looks["of"] == name], width=560, height=220)
        bars = base.mark_rule(opacity=0.35).encode(x=x, y="low:Q", y2="high:Q", color=color)
        y = alt.Y("value:Q", title=f"{name}, since the start")
        lines = base.mark_line().encode(x=x, y=y, color=color, strokeDash=dash)
        points = base.mark_point(filled=True, size=50).encode(x=x, y=y, color=color, shape=shape)
        rule = alt.Chart(upright).mark_rule(strokeDash=[6, 4], size=2).encode(x=x, color=color)
        panels.append(bars + lines + points + rule)
    title = "Upright: the alarm rings. Bars: 95% intervals, paired over captions."
    return alt.vconcat(*panels).properties(title=title)


def hack(out: Path, store: str, plan: Plan, seeds: Sequence[int], answers: int) -> None:
    learned = paid(teach(out, store))
    asked, drawn, rang, rows, pooled = captions(HELD_OUT, "heldout", 3), [], {}, [], []
    base = answered(SHIPPED, asked, answers)
    for seed in seeds:
        watched, gone = (optimise(out, store, learned, seed, plan, kind) for kind in ("watched", "let go"))
        drawn.append(changes(read_looks(watched / "looks.csv"), plan.every, f"seed {seed}", "watched"))
        drawn.append(changes(read_looks(gone / "looks.csv"), plan.seldom, f"seed {seed}", "let go"))
        last = seen(watched, plan)[-1]
        rang |= {f"seed {seed}": last.look * plan.every} if last.state != "calm" else {}
        then = [lost(base, place / "generator.safetensors", asked) for place in (watched / f"looks/{last.look}", gone)]
        pooled.append(then)
        for name, values in zip((f"step {last.look * plan.every}: {last.state}", f"step {plan.steps}: the end"), then):
            rows.append([str(seed), name, *(shown(over_prompts(column, "paired")) for column in values.T)])
    for place, name in enumerate(("where it rings", "the end")):
        mean = np.mean([then[place] for then in pooled], axis=0)
        rows.append(["all", name, *(shown(over_prompts(column, "paired")) for column in mean.T)])
    print(table(["seed", "where", "points of strict lost on held-out captions", "of the share of checks"], rows))
    picture(pd.concat(drawn), rang).save(DOCS / "hacking-strict.png", scale_factor=2)


def control(out: Path, store: str, plan: Plan) -> None:
    verifier = ("reward.kind=verifier", "reward.strict=1", "reward.fraction=1")
    (out / "control").mkdir(exist_ok=True)
    folder = optimise(out / "control", store, verifier, 0, plan, "watched")
    for look in seen(folder, plan):
        print(look.look * plan.every, look.state, f"{look.statistic:.2f}", f"{look.threshold:.2f}", shown(look.gold))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/hacking"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="100 and 200 made the plan")
    parser.add_argument("--answers", type=int, default=6, help="to each held-out caption")
    parser.add_argument("--steps", type=int, default=42)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--every", type=int, default=2, help="optimiser steps between two looks of the watched run")
    parser.add_argument("--captions", type=int, default=640, help="of a look of the watched run")
    parser.add_argument("--times", type=int, default=9, help="that each of them is answered")
    parser.add_argument("--seldom", type=int, default=6, help="the same of the run that is let go on")
    parser.add_argument("--fewer", type=int, default=240)
    parser.add_argument("--control", action="store_true", help="pay for the verifier; only the watched run, one seed")
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    store = str(told.out / "palate.db")
    plan = Plan(told.steps, told.lr, told.every, told.captions, told.times, told.seldom, told.fewer)
    if told.control:
        control(told.out, store, plan)
    else:
        hack(told.out, store, plan, told.seeds, told.answers)


if __name__ == "__main__":
    main()
