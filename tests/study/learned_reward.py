"""What has a reward learned, and is it any use in the sampler? In the shapes world: docs/rewards.md.

    python tests/study/learned_reward.py --out runs/reward-study

Four systems answer each of `--prompts` training captions: the generator with many and with few steps, with guidance,
and one that mishears a fact. Every pair of a caption's answers is judged by three simulated people. On held-out
captions three more systems, which the reward never sees, answer beside the first four. A second reward is taught on the
same pairs under noise, and each of them leads the sampler. What is done is not done again.
"""

import argparse
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from annotation.simulate import Population, Simulation, measured
from benchmarks.vidcap_shapes import FACTS, mistold
from models.fit import FitSettings
from models.generator import Generator, SamplerSettings
from models.weights import SHIPPED
from palate import shapes
from palate.records import Case, Comparison, Estimate, Judgement, Record, Sample, Score, Side, Verdict
from palate.stats.metric import accuracy
from palate.store import Store
from rewards.alarm import over_prompts
from rewards.bench import bench_pairs, unseen
from rewards.guidance import Guided
from rewards.pairs import from_votes
from rewards.programmatic import shapes_scores
from rewards.reward import Answer
from rewards.shapes_encoder import ShapesEncoder
from rewards.train import RewardRecipe, part_of, train
from rewards.video_reward import VideoReward, score_videos

AXES = ("motion_quality", "overall", "prompt_following", "visual_quality")
FAMILIES: tuple[shapes.Family, ...] = ("single", "events", "count")
SCALE = 4  # pixels a pixel, so that no codec blurs it
PEOPLE, OVERLAP = 24, 3
SIGN = {Verdict.GOOD: 1, Verdict.SAME: 0, Verdict.BAD: -1}
FIT = FitSettings(steps=600, lr=1e-3, optimiser="muon", muon_lr=0.01, warmup=30, weight_decay=0.05, ema=0.98)
RECIPE = RewardRecipe(device="cpu", layers=4, prompts=12, every=75, patience=2, fit=FIT)
NOISED = RECIPE.model_copy(update={"noised": 0.75})

PLAIN = SamplerSettings()


@dataclass(frozen=True)
class System:
    """A generator with a sampler of its own, that mishears `wrong` facts of a caption; `drawn` is the true renderer."""

    sampler: SamplerSettings = PLAIN
    wrong: int = 0
    drawn: bool = False


KNOWN = {
    "base": System(),
    "hasty": System(SamplerSettings(steps=3)),
    "guided": System(SamplerSettings(guidance=2.5)),
    "mishears": System(wrong=1),
}
UNSEEN = {
    "drawn": System(drawn=True),
    "coarse": System(SamplerSettings(steps=5, shift=1.0, guidance=1.5)),
    "mishears twice": System(wrong=2),
}


def captions(count: int, split: shapes.Split, seed: int) -> list[shapes.Scene]:
    """That many different ones; there are 1,481 to train on and 401 held out."""
    rng = np.random.default_rng(seed)
    drawn: dict[shapes.Scene, None] = {}
    while len(drawn) < count:
        drawn[shapes.draw_scene(rng, split, FAMILIES)] = None
    return list(drawn)


def paid(reward: Path | str) -> tuple[str, ...]:
    """What tells a run of `palate align` to learn from a checkpoint's overall axis."""
    line = f'[{{kind="trained", path="{reward}", standardise=false, device="cpu"}}]'
    return "reward.kind=measured", f"reward.rewards={line}", 'reward.terms={"video_reward.overall"={}}'


def collect(store: Store, scenes: Sequence[shapes.Scene], systems: dict[str, System], study: str, seed: int) -> None:
    """Answers of all the systems, and three people's verdicts on every pair of a caption's answers."""
    generator = Generator.load_for_worker(SHIPPED)
    people = Population(Simulation().taste, PEOPLE, seed)
    rng = np.random.default_rng(seed)
    records: list[Record] = []  # added at once, so that a study in the record is whole
    for start in tqdm(range(0, len(scenes), 32), desc=study, unit="chunk"):
        part = scenes[start : start + 32]
        cases = [Case(suite="shapes", prompt=str(scene), split=shapes.split_of(scene)) for scene in part]
        made: dict[str, list[Sample]] = {case.id: [] for case in cases}
        scores: list[Score] = []
        for name, system in systems.items():
            seeds = rng.integers(2**31, size=len(part)).tolist()
            heard = [mistold(scene, rng.choice(FACTS, system.wrong, replace=False), rng) for scene in part]
            if system.drawn:
                clips = np.stack([shapes.render(scene, rng) for scene in part])
            else:
                clips = generator.clips([str(scene) for scene in heard], seeds, system.sampler)
            for case, clip, number in zip(cases, clips, seeds):
                media = store.media.add_video(clip, shapes.FPS, SCALE)
                sample = Sample(case=case.id, system=name, seed=number, media=media)
                scores += shapes_scores(case, sample, store.media.video(media))
                made[case.id].append(sample)
        features = measured(scores, Simulation().features)
        records += [*cases, *itertools.chain.from_iterable(made.values()), *scores]
        for case in cases:
            for one, other in itertools.combinations(made[case.id], 2):
                side = Side.LEFT if rng.random() < 0.5 else Side.RIGHT
                pair = Comparison(study=study, case=case.id, candidate=one.id, baseline=other.id, candidate_side=side)
                voters = rng.choice(people.annotators, OVERLAP, replace=False)
                records += [pair, *(people.judge(pair, features, str(voter)) for voter in voters)]
    store.add(records)


@dataclass(frozen=True)
class Led:
    """Held-out captions answered while a reward leads, less the same captions and noise without it; paired."""

    weight: float
    strict: Estimate
    fraction: Estimate
    reward: Estimate


def led(path: Path, prompts: int, weights: Sequence[float]) -> list[Led]:
    """A row for each weight of guidance. `strict` is whether every check of a caption holds, `fraction` their share."""
    reward = VideoReward.load(path, standardise=False)
    assert isinstance(reward.encoder, ShapesEncoder)
    generator = Generator.load_for_worker(SHIPPED)
    asked = captions(prompts, "heldout", 1)
    found: list[NDArray[np.float64]] = []
    for weight in tqdm([0.0, *weights], desc="led"):
        sampler, rows = Guided(generator, reward.encoder, {"overall": weight}), []
        for start in range(0, prompts, 32):
            part = asked[start : start + 32]
            clips = sampler.clips([str(scene) for scene in part], range(start, start + len(part)), PLAIN)
            columns = reward.score([Answer(str(scene), clip, shapes.FPS) for scene, clip in zip(part, clips)])
            overall = next(one.value for one in columns if one.name.endswith("overall"))
            checks = [shapes.check(shapes.observe(clip), scene) for clip, scene in zip(clips, part)]
            rows += [(one.strict, one.fraction, score) for one, score in zip(checks, overall)]
        found.append(np.array(rows, float))
    return [
        Led(weight, *(over_prompts(column, "gain, paired over captions") for column in (each - found[0]).T))
        for weight, each in zip(weights, found[1:])
    ]


def second_person(store: Store, study: str, seed: int, chosen: Callable[[str, set[str]], bool]) -> dict[str, Estimate]:
    """How often another of the same people, where she orders a pair, orders it as those who judged it."""
    features = measured(store.select(Score), Simulation().features)
    prompts = {case.id: case.prompt for case in store.select(Case)}
    systems = {sample.id: sample.system for sample in store.select(Sample)}
    people = Population(Simulation().taste, PEOPLE, seed)
    judged: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in store.select(Judgement):
        judged[judgement.comparison].append(judgement)
    rows: dict[str, list[tuple[int, float, str]]] = defaultdict(list)
    for pair in store.select(Comparison, study=study):
        if not chosen(prompts[pair.case], {systems[pair.candidate], systems[pair.baseline]}):
            continue
        others = sorted(set(people.annotators) - {one.annotator for one in judged[pair.id]})
        other = people.judge(pair, features, others[int(pair.id[-8:], 16) % len(others)])
        for axis, verdict in other.verdicts.items():
            label = sum(SIGN[one.verdicts[axis]] for one in judged[pair.id] if axis in one.verdicts)
            if label and SIGN[verdict]:
                rows[axis].append((int(np.sign(label)), float(SIGN[verdict]), prompts[pair.case]))
    return {axis: accuracy(*map(np.array, zip(*found))) for axis, found in sorted(rows.items())}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=Path("runs/reward-study"))
    options.add_argument("--prompts", type=int, default=800)
    options.add_argument("--heldout", type=int, default=120)
    options.add_argument("--led", type=int, default=160, help="captions answered under each weight of guidance")
    options.add_argument("--weights", type=float, nargs="+", default=[1, 3, 9])
    options.add_argument("--seed", type=int, default=0)
    told = options.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    with Store(str(told.out / "palate.db")) as store:
        studies = {"taste": (told.prompts, "train", KNOWN, told.seed)}
        studies["unseen"] = (told.heldout, "heldout", KNOWN | UNSEEN, told.seed + 99)
        for study, (count, split, systems, seed) in studies.items():
            if next(store.select(Comparison, study=study), None) is None:
                collect(store, captions(count, split, told.seed), systems, study, seed)
        learned = train(from_votes(store, "taste", AXES), RECIPE, told.out / "reward")
        train(from_votes(store, "taste", AXES), NOISED, told.out / "noised")
        pairs = unseen(from_votes(store, "unseen", AXES), list(UNSEEN))
        rows = {row.axis: row.without_ties for row in bench_pairs("reward", pairs, score_videos(learned, pairs))[::3]}
        ceilings = [
            second_person(store, "taste", told.seed, lambda prompt, _: part_of(prompt, RECIPE) == "test"),
            second_person(store, "unseen", told.seed + 99, lambda _, systems: not UNSEEN.keys().isdisjoint(systems)),
        ]
    print("axis | held-out prompts | a second person | systems never seen | a second person")
    for axis in AXES:
        tested = Estimate.model_validate(learned.card["accuracy"][axis])
        print(" | ".join([axis, *map(shown, (tested, ceilings[0][axis], rows[axis], ceilings[1][axis]))]))
    print("reward that leads | weight | strict, gained | checks that hold, gained | the reward, gained, logits")
    for name in ("reward", "noised"):
        for row in led(told.out / name / "reward.safetensors", told.led, told.weights):
            print(" | ".join([name, f"{row.weight:g}", *map(shown, (row.strict, row.fraction, row.reward))]))


def shown(one: Estimate | None) -> str:
    if one is None:
        return "–"
    value, low, high = ("–" if x is None else f"{x:.3f}" for x in (one.value, one.low, one.high))
    return f"{value} [{low}, {high}], n = {one.n}"


if __name__ == "__main__":
    main()
