"""Does the prompt enhancer make better videos? Requests of held-out meaning, by kind: docs/enhancer.md.

    make enhancer-study                     # trains SFT, RL and the control, and compares them
    python tests/study/enhancer.py          # the shipped model alone

Every wish is drawn from the same noise: from the request as it is (the words that the generator knows, in their order),
and from the rewrite of each model. The verifier says which of the facts that were asked the video shows, and simulated
people compare the videos blind.
"""

import argparse
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from alignment.prompt_reward import Similarity, factual, good_prompts, plausibility, richness
from annotation.simulate import Population, Taste
from models.conditions import tokens, understood
from models.enhancer import SHIPPED_ENHANCER, Enhanced, Enhancer
from models.generator import Generator, SamplerSettings
from models.weights import SHIPPED
from palate import shapes
from palate.errors import DataError
from palate.records import Case, Comparison, Estimate, Sample, Side, Verdict
from palate.report import mean_over_cases
from palate.stats.estimate import unseen
from palate.stats.metric import share
from palate.stats.wins import Form, analytic, pooled
from palate.wishes import KINDS, Wish, draw_wish, without_handles

OUT = Path(__file__).parents[2] / "docs" / "enhancer.md"
PEOPLE, OVERLAP = 12, 3
MARGIN = 10  # points that good prompts may lose at most; fixed before the first run
CHOICE_SEED = 77  # of the train-split wishes that say which model is shipped
OUTCOME = {Verdict.GOOD: 1, Verdict.SAME: 0, Verdict.BAD: -1}


@dataclass(frozen=True)
class Drawn:
    """One arm's prompts for all wishes, and what their videos are worth. Arrays are over wishes."""

    prompts: list[str]
    share: np.ndarray  # of the asked facts that the video shows
    whole: np.ndarray  # 1 where it shows all of them
    motion: np.ndarray
    visual: np.ndarray


@dataclass
class Screen:
    """Draws caption number i from noise number i, and each caption and noise once."""

    generator: Generator
    known: dict[tuple[str, int], shapes.Frames] = field(default_factory=dict)

    def clips(self, captions: Sequence[str]) -> list[shapes.Frames]:
        asked = [(caption, at) for at, caption in enumerate(captions)]
        due = [one for one in asked if one not in self.known]
        for start in range(0, len(due), 32):
            some = due[start : start + 32]
            made = self.generator.clips([text for text, _ in some], [at for _, at in some], SamplerSettings())
            self.known.update(zip(some, made))
        return [self.known[one] for one in asked]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--models", nargs="+", metavar="NAME=FOLDER", default=["shipped"], help="each is compared with the one before"
    )
    options.add_argument("--runs", type=Path, nargs="*", default=[], help="folders of RL runs, for the curves")
    options.add_argument("--each", type=int, default=48, help="wishes of each kind")
    options.add_argument("--curve", type=int, default=12, help="the same for each point of a curve")
    options.add_argument("--seed", type=int, default=0)
    told = options.parse_args()
    screen = Screen(Generator.load_for_worker(SHIPPED))
    wishes = drawn_wishes(told.each, told.seed)
    models = {name: Path(folder) if folder else SHIPPED_ENHANCER for name, _, folder in map(parted, told.models)}
    rewritten = {name: Enhancer(path, "cpu").enhance(texts(wishes)) for name, path in models.items()}
    arms = {"as asked": drawn(screen, wishes, texts(wishes))}
    arms |= {name: drawn(screen, wishes, [one.rewrite for one in each]) for name, each in rewritten.items()}
    curves = [
        curve(folder, next(iter(models.values())), screen, drawn_wishes(told.curve, told.seed + 1))
        for folder in told.runs
    ]
    lines = [
        *opening(told, wishes),
        *scores(wishes, arms),
        *unharmed(wishes, arms),
        *choice(models, screen, told.each),
        *people(wishes, arms, told.seed),
        *kept(wishes, rewritten),
        *(line for each in curves for line in each),
    ]
    OUT.write_text("\n".join(lines))
    print("\n".join(lines))


def parted(text: str) -> tuple[str, str, str]:
    return text.partition("=")


def against(arms: dict[str, Drawn]) -> list[tuple[str, str]]:
    """Each model and the request as it is, and each model and the one before it."""
    first, *models = arms
    return [(one, first) for one in models] + [(later, earlier) for earlier, later in pairwise(models)]


def drawn_wishes(each: int, seed: int, split: shapes.Split = "heldout") -> list[Wish]:
    rng = np.random.default_rng(seed)
    return [draw_wish(rng, split, (kind,)) for kind in KINDS for _ in range(each)]


def texts(wishes: Sequence[Wish]) -> list[str]:
    return [wish.text for wish in wishes]


def drawn(screen: Screen, wishes: Sequence[Wish], prompts: list[str]) -> Drawn:
    """Wish number i from noise number i, whatever the prompt."""
    clips = screen.clips([understood(without_handles(prompt)) for prompt in prompts])
    granted = [wish.granted(clip) for wish, clip in zip(wishes, clips)]
    seen = [shapes.observe(clip) for clip in clips]
    return Drawn(
        prompts,
        np.array([np.mean(list(one.values())) for one in granted]),
        np.array([float(all(one.values())) for one in granted]),
        np.array([one.motion for one in seen]),
        np.array([one.visual for one in seen]),
    )


def opening(told: argparse.Namespace, wishes: Sequence[Wish]) -> list[str]:
    runs = f" --runs {' '.join(map(str, told.runs))}" * bool(told.runs)
    return [
        "# What the prompt enhancer does to videos",
        "",
        f"Written by `python tests/study/enhancer.py --models {' '.join(told.models)}{runs} --each {told.each} --curve "
        f"{told.curve} --seed {told.seed}`:",
        f"{len(wishes)} requests of held-out meaning, {told.each} of each kind. Each is drawn by the shipped generator",
        "from the request as it is (the words that the generator knows, in their order), and from the rewrite of each",
        "model; always from the same noise. How the models were made is in `models/shipped/enhancer/README.md`.",
        "",
    ]


def scores(wishes: Sequence[Wish], arms: dict[str, Drawn]) -> list[str]:
    lines = [
        "## What the verifier sees",
        "",
        "How many of the videos, in percent, show everything that was asked; and the paired gains in points.",
        "",
        f"| kind | n | unknown words | {' | '.join([*arms, *(f'{one} - {other}' for one, other in against(arms))])} |",
        f"|---|---|---|{'---|' * (len(arms) + len(against(arms)))}",
    ]
    for kind in ("all", *KINDS):
        at = np.array([kind in ("all", wish.kind) for wish in wishes])
        unknown = np.mean([not_known(wish.text) for wish, here in zip(wishes, at) if here])
        values = [proportion(one.whole[at]) for one in arms.values()]
        gains = [gain(arms[one].whole[at], arms[other].whole[at]) for one, other in against(arms)]
        lines.append(f"| {kind} | {at.sum()} | {100 * unknown:.0f}% | {' | '.join(map(percent, values + gains))} |")
    return [
        *lines,
        "",
        "Intervals are 95%, t over requests, each row by itself; where all outcomes are equal, the exact binomial one.",
        '"Unknown words": requests with a word that the generator has never seen, which it refuses as they are; here',
        "those words are left out for it.",
        "",
    ]


def unharmed(wishes: Sequence[Wish], arms: dict[str, Drawn]) -> list[str]:
    """What happens to prompts that were good already."""
    good = np.array([wish.kind == "good" for wish in wishes])
    first, *models = arms
    lines = ["## Prompts that were already good", ""]
    for name in models:
        found = gain(arms[name].whole[good], arms[first].whole[good])
        same = sum(one == other for one, other, here in zip(arms[name].prompts, arms[first].prompts, good) if here)
        assert found.low is not None
        verdict = "not worse" if 100 * found.low > -MARGIN else "not shown to be no worse"
        lines.append(
            f"* {name}: {same} of {good.sum()} stay as they were, to the letter; {percent(found)} points more of them "
            f"show everything: {verdict} by a margin of {MARGIN} points, fixed beforehand."
        )
    return [*lines, ""]


def choice(models: dict[str, Path], screen: Screen, each: int) -> list[str]:
    """The rule of what is shipped, on wishes that have no part in what is reported: other ones, of the train split."""
    if len(models) < 2:
        return []
    wishes = drawn_wishes(each, CHOICE_SEED, "train")
    *_, earlier, later = (
        drawn(screen, wishes, [one.rewrite for one in Enhancer(path, "cpu").enhance(texts(wishes))]).whole
        for path in models.values()
    )
    *_, one, other = models
    found = gain(later, earlier)
    assert found.value is not None
    return [
        "## Which is shipped",
        "",
        f"The rule, fixed before any result: {other}, where it gains more than nothing over {one} on {len(wishes)}",
        f"requests of the train split, drawn anew. It gains {percent(found)} points there, so "
        f"**{other if found.value > 0 else one}** is shipped.",
        "",
    ]


def not_known(text: str) -> bool:
    try:
        tokens([text])
    except DataError:
        return True
    return False


def gain(later: np.ndarray, earlier: np.ndarray) -> Estimate:
    """The mean paired difference of outcomes of 0 or 1; where no request changes, from how many may all the same."""
    change = later - earlier
    if change.any():
        return mean_over_cases(change.tolist(), list(range(len(change))))
    most = unseen(len(change), 0.95)
    return Estimate(value=0, low=-most, high=most, n=len(change), method="exact binomial bound of those that change")


def proportion(values: np.ndarray) -> Estimate:
    return share(values == 1, np.arange(len(values)), "share")


def percent(one: Estimate) -> str:
    value, low, high = ("–" if x is None else f"{100 * x:.1f}" for x in (one.value, one.low, one.high))
    return f"{value} [{low}, {high}]"


def people(wishes: Sequence[Wish], arms: dict[str, Drawn], seed: int) -> list[str]:
    lines = [
        "## What simulated people prefer",
        "",
        f"Blind and side by side, {OVERLAP} of {PEOPLE} simulated people a pair, who like what they asked for to be",
        "there, even movement and a clean picture (annotation/simulate.py, its default taste).",
        "",
        "| candidate against baseline | kind | G | S | B | (G+S)/(B+S) | (G-B)/N |",
        "|---|---|---|---|---|---|---|",
    ]
    for candidate, baseline in against(arms):
        outcome, who = votes(wishes, arms, candidate, baseline, seed)
        for kind in ("all", "good"):
            at = np.array([kind in ("all", wish.kind) for wish in wishes]).repeat(OVERLAP) & (outcome != SKIPPED)
            ballots = pooled(outcome[at], np.arange(len(wishes)).repeat(OVERLAP)[at], who[at])
            counts = " | ".join(str(int((outcome[at] == way).sum())) for way in (1, 0, -1))
            ratio, net = (analytic(ballots, form) for form in (Form.RATIO, Form.NET))
            lines.append(f"| {candidate} against {baseline} | {kind} | {counts} | {shown(ratio)} | {shown(net)} |")
    return [*lines, "", "Intervals are 95%, with requests and people as samples.", ""]


SKIPPED = 9


def votes(
    wishes: Sequence[Wish], arms: dict[str, Drawn], candidate: str, baseline: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Outcome and person of each vote, (wishes * OVERLAP,)."""
    rng = np.random.default_rng(seed)
    population = Population(Taste(), PEOPLE, seed)
    outcome, who = [], []
    for at, wish in enumerate(wishes):
        case = Case(suite="wishes", prompt=wish.text, tags={"kind": wish.kind})
        pair = {name: Sample(case=case.id, system=name, seed=at).id for name in (candidate, baseline)}
        features = {
            pair[name]: {
                "prompt": arms[name].share[at],
                "motion": arms[name].motion[at],
                "visual": arms[name].visual[at],
            }
            for name in pair
        }
        side = (Side.LEFT, Side.RIGHT)[int(rng.integers(2))]
        shown_pair = Comparison(
            study="enhancer", case=case.id, candidate=pair[candidate], baseline=pair[baseline], candidate_side=side
        )
        for person in rng.choice(population.annotators, OVERLAP, replace=False):
            judged = population.judge(shown_pair, features, str(person))
            outcome.append(OUTCOME[judged.verdicts["overall"]] if judged.verdicts else SKIPPED)
            who.append(str(person))
    return np.array(outcome), np.array(who)


def shown(one: Estimate) -> str:
    value, low, high = ("–" if x is None else f"{x:.2f}" for x in (one.value, one.low, one.high))
    return f"{value} [{low}, {high}]"


def kept(wishes: Sequence[Wish], rewritten: dict[str, list[Enhanced]]) -> list[str]:
    lines = [
        "## What the rewrites keep",
        "",
        "In percent: rewrites that say every fact asked and no other value of it, of all requests, of the misspelt and",
        "of those with something injected; requests with handles whose rewrite was used, which it is only with exactly",
        "those handles; good prompts left as they were, to the letter; and requests whose own prompt was used because",
        "the rewrite was refused.",
        "",
        "| | every fact | of misspelt | of injected | handles | good as it was | refused |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in rewritten.items():
        facts = np.array([factual(wish, one.rewrite) == 1 for wish, one in zip(wishes, each)], float)
        used = np.array([not one.note for one in each], float)
        same = np.array([one.rewrite == one.request for one in each], float)
        of = {kind: np.array([wish.kind == kind for wish in wishes]) for kind in KINDS}
        columns = (facts, facts[of["misspelt"]], facts[of["injected"]], used[of["handles"]], same[of["good"]], 1 - used)
        lines.append(f"| {name} | {' | '.join(percent(proportion(column)) for column in columns)} |")
    return [*lines, ""]


def curve(folder: Path, sft: Path, screen: Screen, wishes: Sequence[Wish]) -> list[str]:
    """A run's reward on its own answers, and what held-out requests get from its checkpoints."""
    log = [json.loads(line) for line in (folder / "rl" / "log.jsonl").read_text().splitlines()]
    rewards = {row["step"]: row for row in log if "reward" in row}
    weights = tomllib.loads((folder / "recipe.toml").read_text())["rl"]["weights"]
    points = {int(path.name.split("-")[1]): path for path in (folder / "rl-steps").glob("checkpoint-*")}
    similarity = Similarity(good_prompts())
    lines = [
        f"## The course of RL, `{folder}`",
        "",
        f"Weights: {', '.join(f'{name} {value}' for name, value in weights.items())}. Left, the means of the run's",
        f"own answers since the point before. Right, of the likeliest answers to {len(wishes)} held-out requests: the",
        "terms, the length in words, and the share of videos, in percent, that show everything asked.",
        "",
        "| step | reward | tokens | factual | richness | plausibility | similarity | words | of thought | all shown |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    before = 0
    for step, path in {0: sft, **dict(sorted(points.items()))}.items():
        since = [row for at, row in rewards.items() if before < at <= step]
        own = (
            f"{np.mean([row[name] for row in since]):.3f}" if since else ""
            for name in ("reward", "completions/mean_length")
        )
        told = Enhancer(path, "cpu").enhance(texts(wishes))
        terms = [
            np.mean([score(wish, one.rewrite) for wish, one in zip(wishes, told)])
            for score in (factual, richness, plausibility, similarity)
        ]
        words = [
            np.mean([len(text.split()) for text in each])
            for each in ([one.rewrite for one in told], [one.thought for one in told])
        ]
        gold = proportion(drawn(screen, wishes, [one.rewrite for one in told]).whole)
        cells = [
            str(step),
            *own,
            *(f"{value:.3f}" for value in terms),
            *(f"{value:.1f}" for value in words),
            percent(gold),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        before = step
    return [*lines, ""]


if __name__ == "__main__":
    main()
