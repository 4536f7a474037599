"""How often the intervals hold, by simulation with known truth: writes docs/coverage.md. Run by `make study`.

Prompts and annotators are drawn anew for every study. A verdict cuts a latent liking, normal given the effects of its
prompt and of its annotator, at +-0.43, so that a third of even verdicts are ties; the true shares are then known in
closed form. The regimes that are expected to fail are there to show where. Stopped, it goes on where it was.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest, norm, t
from tqdm import tqdm

from palate.records import Estimate, content_hash
from palate.stats import agreement, metric, rating, scaling, sequential, wins
from palate.stats.wins import Form

CUT = 0.43
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "coverage.md"
DONE = Path(tempfile.gettempdir()) / "palate-intervals"  # the intervals of each study, by what they were computed with
SOURCES = [Path(__file__), *sorted(Path(wins.__file__).parent.glob("*.py"))]


@dataclass(frozen=True)
class Regime:
    """Studies of `prompts`, each judged by `overlap` of `annotators`, who differ by these standard deviations."""

    prompts: int
    annotators: int
    overlap: int
    prompt_sd: float = 0.6
    annotator_sd: float = 0.3
    lean: float = 0.3

    def __str__(self) -> str:
        spread = f"sd {self.prompt_sd:g} and {self.annotator_sd:g}"
        return f"{self.prompts} prompts, {self.overlap} of {self.annotators} annotators, {spread}, lean {self.lean:g}"

    def shares(self) -> tuple[float, float, float]:
        """The true good, same and bad."""
        spread = math.sqrt(1 + self.prompt_sd**2 + self.annotator_sd**2)
        good, bad = float(norm.cdf((self.lean - CUT) / spread)), float(norm.cdf((-self.lean - CUT) / spread))
        return good, 1 - good - bad, bad

    def schedule(self, rng: np.random.Generator, order: str = "prompt") -> tuple[np.ndarray, np.ndarray]:
        """Who judges what, (n,) each: prompt by prompt, or "shuffled", or "annotator" by annotator."""
        prompt = np.repeat(np.arange(self.prompts), self.overlap)
        annotator = rng.permuted(np.tile(np.arange(self.annotators), (self.prompts, 1)), axis=1)[:, : self.overlap]
        by = {"prompt": np.arange(len(prompt)), "shuffled": rng.permutation(len(prompt))}
        rows = by[order] if order in by else np.argsort(annotator.ravel(), kind="stable")
        return prompt[rows], annotator.ravel()[rows]

    def verdicts(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        prompt, annotator = self.schedule(rng)
        effect = rng.normal(0, self.prompt_sd, self.prompts)[prompt]
        effect = effect + rng.normal(0, self.annotator_sd, self.annotators)[annotator]
        liking = self.lean + effect + rng.normal(size=len(prompt))
        return (liking > CUT).astype(int) - (liking < -CUT), prompt, annotator


@dataclass(frozen=True)
class Row:
    """How many of `studies` intervals held the truth; `stated` regimes must cover 93-97%."""

    interval: str
    regime: str
    stated: bool
    held: int
    studies: int
    without: int  # studies that gave no interval

    @property
    def good(self) -> bool:
        return 0.93 <= self.held / self.studies <= 0.97

    def text(self) -> str:
        bounds = binomtest(self.held, self.studies).proportion_ci()
        share = self.held / self.studies
        verdict = "yes" if self.good else "**no**, too wide" if share > 0.97 else "**no**, too narrow"
        note = f"; {self.without} without an interval" if self.without else ""
        return (
            f"| {self.interval} | {self.regime} | {'stated' if self.stated else 'a limit'} | {self.studies}{note} "
            f"| {share:.1%} [{bounds.low:.1%}, {bounds.high:.1%}] | {verdict} |"
        )


def cover(
    interval: str, regime: object, stated: bool, studies: int, study: Callable[[np.random.Generator], list], truth: list
) -> list[Row]:
    """Coverage of each of the named estimates that a `study` returns. A study that was done is not done again."""
    title = f"{interval}: {regime}"
    done = DONE / f"{content_hash([title, *(file.read_text() for file in SOURCES)])}.jsonl"
    done.parent.mkdir(exist_ok=True)
    done.touch()
    kept = [json.loads(line) for line in done.read_text().splitlines()]
    with done.open("a", buffering=1) as file:
        for seed in tqdm(range(len(kept), studies), desc=title, initial=len(kept), total=studies, leave=False):
            found = study(np.random.default_rng(seed))
            kept.append([(name, one.low, one.high) for name, one in found])
            print(json.dumps(kept[-1]), file=file)
    held: dict[str, list[bool]] = {}
    without: dict[str, int] = {}
    for found in kept[:studies]:
        for (name, low, high), true in zip(found, truth):
            if low is None or high is None:
                without[name] = without.get(name, 0) + 1
            else:
                held.setdefault(name, []).append(low <= true <= high)
    rows = [(f"{interval}{name and ', '}{name}", hits, without.get(name, 0)) for name, hits in held.items()]
    return [Row(name, str(regime), stated, sum(hits), len(hits), lost) for name, hits, lost in rows]


def gsb(studies: int) -> Iterator[Row]:
    regimes = {
        Regime(200, 20, 3): True,
        Regime(200, 20, 3, prompt_sd=0.0, annotator_sd=0.0): False,  # no part of a two-way variance counts as nothing
        Regime(100, 15, 2, lean=0.0): True,
        Regime(400, 50, 1): True,
        Regime(100, 12, 12, prompt_sd=1.0): True,
        Regime(200, 3, 3): False,
        Regime(200, 5, 3, annotator_sd=0.5): False,
        Regime(10, 10, 3): False,
        Regime(60, 20, 3, lean=2.5): False,
    }
    for regime, stated in regimes.items():
        good, same, bad = regime.shares()
        truth = list(wins.gsb_from_counts(good, same, bad).values())

        def study(rng: np.random.Generator, regime: Regime = regime) -> list[tuple[str, Estimate]]:
            ballots = wins.pooled(*regime.verdicts(rng))
            return [(form.value, wins.analytic(ballots, form)) for form in Form]

        yield from cover("GSB, two-way t", regime, stated, studies, study, truth)
    regime = Regime(200, 20, 3)
    truth = [regime.shares()[0] - regime.shares()[2]]

    def bootstrapped(rng: np.random.Generator) -> list[tuple[str, Estimate]]:
        return [("net", wins.bootstrap(wins.pooled(*regime.verdicts(rng)), Form.NET, replicates=400))]

    def fixed_people(rng: np.random.Generator) -> list[tuple[str, Estimate]]:
        outcome, prompt, _ = regime.verdicts(rng)
        return [("net", wins.analytic(wins.pooled(outcome, prompt), Form.NET))]

    def iid(rng: np.random.Generator) -> list[tuple[str, Estimate]]:
        outcome, prompt, _ = regime.verdicts(rng)
        return [("net", wins.analytic(wins.pooled(outcome, np.arange(len(prompt))), Form.NET))]

    yield from cover("GSB, two-way bootstrap", regime, False, studies, bootstrapped, truth)
    unknown, independent = "GSB, t over prompts alone (annotators unknown)", "GSB, t over verdicts as if independent"
    yield from cover(unknown, regime, False, studies, fixed_people, truth)
    yield from cover(independent, regime, False, studies, iid, truth)


def ratings(studies: int) -> Iterator[Row]:
    strengths = np.array([0.6, 0.2, -0.1, -0.7])

    def votes(rng: np.random.Generator, prompts: int) -> tuple[np.ndarray, ...]:
        prompt = np.repeat(np.arange(prompts), 6)
        candidate, baseline = np.tile(np.array(np.triu_indices(4, 1)), prompts)
        taste = strengths + rng.normal(0, 0.7, (prompts, 4))
        x = taste[prompt, candidate] - taste[prompt, baseline]
        chance = np.exp(np.stack([x / 2, np.zeros_like(x), -x / 2]))
        drawn = rng.random(len(x)) * chance.sum(0)
        return candidate, baseline, (drawn < chance[0]).astype(int) - (drawn > chance[0] + chance[1]), prompt

    # Tastes differ by prompt, which a single strength averages: the truth is what many prompts give.
    for ties in ("davidson", "rao_kupper"):
        many = rating.fit(*votes(np.random.default_rng(10**6), 300_000)[:3], systems="abcd", ties=ties)
        truth = [one.value for one in many.strength]

        def study(rng: np.random.Generator, prompts: int, ties: rating.Ties = ties) -> list[tuple[str, Estimate]]:
            found = rating.fit(*votes(rng, prompts), systems="abcd", ties=ties)
            return [(f"strength of {name}", one) for name, one in zip("abcd", found.strength)]

        for prompts, stated in ((80, True), (12, False)):
            regime = f"4 systems, {prompts} prompts with tastes (sd 0.7), a verdict a pair"
            sized = lambda rng, prompts=prompts, study=study: study(rng, prompts)  # noqa: E731
            yield from cover(f"ratings, {ties}", regime, stated, studies, sized, truth)


def metrics(studies: int) -> Iterator[Row]:
    def samples(rng: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        prompt, root = np.repeat(np.arange(prompts), 3), np.linalg.cholesky([[1, 0.6], [0.6, 1]])
        both = root @ (rng.normal(size=(2, prompts))[:, prompt] + rng.normal(size=(2, 3 * prompts))) / math.sqrt(2)
        return *both, prompt

    truth = [2 / math.pi * math.asin(0.6), 6 / math.pi * math.asin(0.3)]
    for prompts, stated in ((60, True), (8, False)):

        def study(rng: np.random.Generator, prompts: int = prompts) -> list[tuple[str, Estimate]]:
            columns = samples(rng, prompts)
            return [("Kendall", metric.kendall(*columns)), ("Spearman", metric.spearman(*columns))]

        regime = f"3 samples of each of {prompts} prompts, correlation 0.6"
        yield from cover("metric", regime, stated, studies, study, truth)


def alphas(studies: int) -> Iterator[Row]:
    def table(rng: np.random.Generator, units: int) -> np.ndarray:
        liking = rng.normal(0, 1, units)[:, None] + rng.normal(size=(units, 3))
        return agreement.count_table(np.repeat(np.arange(units), 3), np.searchsorted([-CUT, CUT], liking.ravel()), 3)

    many = table(np.random.default_rng(10**6), 1_000_000)
    truth = [agreement.alpha(many, kind, replicates=2).value for kind in ("nominal", "ordinal")]
    for units, stated in ((150, True), (15, False)):

        def study(rng: np.random.Generator, units: int = units) -> list[tuple[str, Estimate]]:
            counts = table(rng, units)
            return [(kind, agreement.alpha(counts, kind, replicates=500)) for kind in ("nominal", "ordinal")]

        yield from cover("alpha, bootstrap", f"{units} comparisons of 3 votes", stated, studies, study, truth)


def laws(studies: int) -> Iterator[Row]:
    law = scaling.VIDEO_LOSS
    N, D = np.repeat([0.017, 0.057, 0.13, 0.26, 0.7, 1.4], 6), np.tile([1, 2, 4, 6, 9, 12.0], 6)

    def study(rng: np.random.Generator) -> list[tuple[str, Estimate]]:
        data = scaling.runs(law.loss(N, D) * np.exp(1e-3 * rng.normal(size=36)), N=N, D=D)
        fit = scaling.fit(data, replicates=100)
        return [(name, fit.estimate(lambda law, name=name: getattr(law, name))) for name in vars(law)]

    yield from cover("loss law, bootstrap", "36 runs, 0.1% noise", False, studies, study, list(vars(law).values()))


@dataclass(frozen=True)
class Watched:
    """How often a study without an effect is ever called significant by somebody who looks at every vote."""

    regime: Regime
    order: str
    people: bool
    anytime: float
    fixed: float
    studies: int

    def text(self) -> str:
        bounds = binomtest(round(self.anytime * self.studies), self.studies).proportion_ci()
        ways = "two-way" if self.people else "prompts alone"
        return (
            f"| {self.regime} | {self.order} | {ways} | {self.studies} | {self.anytime:.1%} [{bounds.low:.1%}, "
            f"{bounds.high:.1%}] | {self.fixed:.1%} |"
        )


def watch(regime: Regime, order: str, people: bool, studies: int, seed: int = 0) -> Watched:
    """All studies side by side, a vote at a time: every cluster's sum and size is kept, and the sums of their squares.

    The last look is checked against `sequential.anytime`.
    """
    rng = np.random.default_rng(seed)
    prompt, annotator = regime.schedule(rng, order)
    by_prompt = rng.normal(0, regime.prompt_sd, (regime.prompts, studies))
    by_annotator = rng.normal(0, regime.annotator_sd, (regime.annotators, studies))
    clusters = [_Clusters(regime.prompts, studies), _Clusters(regime.annotators, studies)]
    total, squares = np.zeros(studies), np.zeros(studies)
    fooled, naive = np.zeros(studies, bool), np.zeros(studies, bool)
    outcomes = []
    for n, (p, a) in enumerate(zip(prompt, annotator), 1):
        liking = by_prompt[p] + by_annotator[a] + rng.normal(size=studies)
        verdict = (liking > CUT) * 1.0 - (liking < -CUT)
        outcomes.append(verdict)
        clusters[0].add(p, verdict)
        clusters[1].add(a, verdict)
        total, squares = total + verdict, squares + verdict**2
        if clusters[0].seen < sequential.LEAST_PROMPTS or (people and clusters[1].seen < 2):
            continue
        net = total / n
        parts = [one.variance(net) for one in clusters[: 1 + people]]
        dof = min(one.seen for one in clusters[: 1 + people]) - 1
        if people:
            both = (squares - n * net**2) * n / (n - 1)
            parts = [parts[0] + parts[1] - both, *parts, both]
        v = np.max(parts, axis=0)
        quantile = t.ppf(0.975, dof)
        reach = sequential.boundary(v * (quantile / norm.ppf(0.975)) ** 2)
        fooled |= (np.abs(total) > reach) & (v > 0)
        naive |= (np.abs(total) > quantile * np.sqrt(v)) & (v > 0)
    shown = sequential.anytime(wins.pooled(np.array(outcomes)[:, 0], prompt, annotator if people else None))
    assert shown.high is not None
    assert abs(shown.high - net[0] - reach[0] / len(prompt)) < 1e-9
    return Watched(regime, order, people, float(fooled.mean()), float(naive.mean()), studies)


class _Clusters:
    """Sums and sizes of clusters, and what their variance about any mean needs."""

    def __init__(self, number: int, studies: int) -> None:
        self._sums, self._sizes = np.zeros((number, studies)), np.zeros(number)
        self._squares, self._products, self._size_squares = np.zeros(studies), np.zeros(studies), 0.0

    def add(self, one: int, verdict: np.ndarray) -> None:
        self._squares += 2 * self._sums[one] * verdict + verdict**2
        self._products += self._sizes[one] * verdict + self._sums[one] + verdict
        self._size_squares += 2 * self._sizes[one] + 1
        self._sums[one] += verdict
        self._sizes[one] += 1

    @property
    def seen(self) -> int:
        return int(np.count_nonzero(self._sizes))

    def variance(self, mean: np.ndarray) -> np.ndarray:
        about = self._squares - 2 * mean * self._products + mean**2 * self._size_squares
        return about * self.seen / (self.seen - 1)


def watched(studies: int) -> Iterator[Watched]:
    for order in ("prompt", "shuffled", "annotator"):
        yield watch(Regime(300, 20, 3, 0.7, 0.3, lean=0.0), order, True, studies)
    yield watch(Regime(300, 20, 3, 0.0, 0.0, lean=0.0), "shuffled", True, studies)
    yield watch(Regime(300, 20, 3, 0.7, 0.0, lean=0.0), "prompt", False, studies)
    yield watch(Regime(200, 20, 10, 1.0, 0.0, lean=0.0), "prompt", False, studies)
    yield watch(Regime(2000, 30, 1, 0.0, 0.2, lean=0.0), "prompt", True, studies)
    yield watch(Regime(300, 4, 3, 0.7, 0.3, lean=0.0), "shuffled", True, studies)
    yield watch(Regime(300, 20, 3, 0.7, 0.6, lean=0.0), "shuffled", False, studies)


def document(rows: list[Row], looked: list[Watched]) -> str:
    failing = [
        f"- {one.interval}: {one.regime}: {one.held / one.studies:.1%}, {'stated' if one.stated else 'a limit'}"
        for one in rows
        if not one.good
    ]
    failing += [
        f"- any time, {one.order}: {one.regime}: {one.anytime:.1%} wrong" for one in looked if one.anytime > 0.05
    ]
    return "\n".join(
        [
            "# How often the intervals hold",
            "",
            "Written by `make study` (tests/study/intervals.py, which says how the studies are simulated). Rows marked",
            "*stated* are what the intervals promise; *a limit* shows where they may fail. In brackets: the 95%",
            "interval of the simulation itself.",
            "",
            "## 95% intervals",
            "",
            "| interval | regime | | studies | held the truth | within 93-97% |",
            "|---|---|---|---|---|---|",
            *(one.text() for one in rows),
            "",
            "## Looking at every vote",
            "",
            "How many studies without an effect were ever called significant, at any vote.",
            "",
            "| regime | votes come by | variance | studies | any time | a 95% t interval |",
            "|---|---|---|---|---|---|",
            *(one.text() for one in looked),
            "",
            "## Where they fail",
            "",
            *(failing or ["Nowhere in these regimes."]),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="for each row")
    parser.add_argument("--out", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    n = options.studies
    rows = [*gsb(n), *ratings(n), *metrics(n), *alphas(n), *laws(n)]
    looked = list(watched(n))
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(document(rows, looked))
    print(options.out.read_text())


if __name__ == "__main__":
    main()
