"""Palate's statistics beside its peers': the same votes, one process, one after the other. Run by `make perf`.

Prints, for each task and number of votes, the median seconds of some repetitions after one to warm up, and how far the
estimates are from ours. Votes are handed to each package as its documentation has them; making that form is not timed.
A peer that is not installed, or takes too long at that size, is left out. The peers are in the extra `perf`.
"""

import argparse
import importlib
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from palate.stats import agreement, rating, wins

SYSTEMS, PROMPTS, ANNOTATORS = 20, 5000, 200


@dataclass(frozen=True)
class Line:
    """One measurement; `apart` is the largest absolute difference from our estimate, in log-odds or alpha."""

    task: str
    votes: int
    package: str
    seconds: float
    apart: float | None


@dataclass(frozen=True)
class Votes:
    """Votes of a Bradley-Terry model without ties, columns (n,)."""

    candidate: np.ndarray
    baseline: np.ndarray
    outcome: np.ndarray
    prompt: np.ndarray
    annotator: np.ndarray


def simulate(n: int) -> Votes:
    rng = np.random.default_rng(0)
    strength = rng.normal(0, 0.7, SYSTEMS)
    candidate = rng.integers(0, SYSTEMS, n)
    baseline = (candidate + rng.integers(1, SYSTEMS, n)) % SYSTEMS
    won = rng.random(n) < 1 / (1 + np.exp(strength[baseline] - strength[candidate]))
    return Votes(candidate, baseline, 2 * won - 1, rng.integers(0, PROMPTS, n), rng.integers(0, ANNOTATORS, n))


def measure(task: Callable[[], Any], repetitions: int) -> tuple[float, Any]:
    result = task()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        result = task()
        seconds.append(time.perf_counter() - start)
    return median(seconds), result


def points(votes: Votes) -> dict[str, Callable[[], np.ndarray]]:
    """Strengths alone, in log-odds."""
    columns = (votes.candidate, votes.baseline, votes.outcome)
    names = [str(one) for one in range(SYSTEMS)]
    tasks = {"palate": lambda: np.array([one.value for one in rating.fit(*columns, systems=names).strength])}

    def with_evalica(module: Any) -> Callable[[], np.ndarray]:
        kinds = [module.Winner.Y, None, module.Winner.X]
        winners = [kinds[one + 1] for one in votes.outcome.tolist()]
        left, right = votes.candidate.tolist(), votes.baseline.tolist()

        def run() -> np.ndarray:
            found = module.bradley_terry(left, right, winners, tolerance=1e-10, limit=1000).scores
            return np.log(found.loc[list(range(SYSTEMS))].to_numpy())

        return run

    def with_choix(module: Any) -> Callable[[], np.ndarray]:
        won = votes.outcome > 0
        pairs = np.stack([np.where(won, *columns[:2]), np.where(won, *columns[1::-1])], axis=1).tolist()
        return lambda: module.ilsr_pairwise(SYSTEMS, pairs)

    def with_crowdkit(module: Any) -> Callable[[], np.ndarray]:
        frame = importlib.import_module("pandas").DataFrame({"left": votes.candidate, "right": votes.baseline})
        frame["label"] = np.where(votes.outcome > 0, frame["left"], frame["right"])

        def run() -> np.ndarray:
            # Crowd-Kit 1.4.2 compares its scores with themselves and stops at its second step, but for this.
            found = module.BradleyTerry(n_iter=100, tol=-1).fit_predict(frame)
            return np.log(found.loc[list(range(SYSTEMS))].to_numpy())

        return run

    return tasks | peers({"evalica": with_evalica, "choix": with_choix, "crowdkit.aggregation": with_crowdkit})


def intervals(votes: Votes) -> dict[str, Callable[[], np.ndarray]]:
    """Strengths with their intervals. Ours are robust to clusters both ways, arena-rank's (the sandwich) are not."""
    names = [str(one) for one in range(SYSTEMS)]
    columns = (votes.candidate, votes.baseline, votes.outcome, votes.prompt, votes.annotator)

    def ours(columns: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.array([one.value for one in rating.fit(*columns, systems=names).strength])

    def with_arena_rank(module: Any) -> Callable[[], np.ndarray]:
        data = importlib.import_module("arena_rank.utils.data_utils")
        frame = importlib.import_module("pandas").DataFrame({"model_a": votes.candidate, "model_b": votes.baseline})
        frame["winner"] = np.where(votes.outcome > 0, "model_a", "model_b")

        def run() -> np.ndarray:
            dataset = data.PairDataset.from_pandas(frame)
            model = module.BradleyTerry(n_competitors=SYSTEMS)
            found = model.compute_ratings_and_cis(dataset)
            order = np.argsort(found["competitors"])
            return np.asarray(found["ratings"])[order] / rating.ELO

        return run

    tasks = {"palate, two-way": lambda: ours(columns), "palate, prompts": lambda: ours(columns[:4])}
    return tasks | peers({"arena_rank.models.bradley_terry": with_arena_rank})


def bootstraps(votes: Votes) -> dict[str, Callable[[], np.ndarray]]:
    """A hundred bootstraps: ours of the net over prompts and annotators, evalica's of strengths over votes."""
    ballots = wins.pooled(votes.outcome, votes.prompt, votes.annotator)
    tasks = {"palate, two-way": lambda: np.array(wins.bootstrap(ballots, wins.Form.NET, replicates=100).value)}

    def with_evalica(module: Any) -> Callable[[], None]:
        kinds = [module.Winner.Y, None, module.Winner.X]
        winners = [kinds[one + 1] for one in votes.outcome.tolist()]
        left, right = votes.candidate.tolist(), votes.baseline.tolist()
        more = {"n_resamples": 100, "bootstrap_method": "percentile", "random_state": 0}
        return lambda: module.bootstrap(module.bradley_terry, left, right, winners, **more) and None

    return tasks | peers({"evalica": with_evalica})


def alphas(votes: Votes) -> dict[str, Callable[[], np.ndarray]]:
    """Krippendorff's nominal alpha of 10 votes a unit, without an interval but ours, which has 1,000 bootstraps."""
    units = len(votes.outcome) // 10
    rng = np.random.default_rng(1)
    table = np.where(rng.random((10, units)) < 0.6, rng.integers(0, 3, units), rng.integers(0, 3, (10, units)))
    unit, category = np.tile(np.arange(units), 10), table.ravel()
    tasks = {
        "palate, 1,000 bootstraps": lambda: np.array(
            agreement.alpha(agreement.count_table(unit, category, 3), "nominal", replicates=1000).value
        )
    }

    def with_krippendorff(module: Any) -> Callable[[], np.ndarray]:
        return lambda: np.array(module.alpha(table, level_of_measurement="nominal"))

    def with_evalica(module: Any) -> Callable[[], np.ndarray]:
        frame = importlib.import_module("pandas").DataFrame(table)
        return lambda: np.array(module.alpha(frame).alpha)

    return tasks | peers({"krippendorff": with_krippendorff, "evalica": with_evalica})


def peers(tasks: dict[str, Callable[[Any], Callable[[], Any]]]) -> dict[str, Callable[[], Any]]:
    found = {}
    for name, prepare in tasks.items():
        try:
            module = importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed")
            continue
        found[name.split(".")[0]] = prepare(module)
    return found


TASKS = {"strengths": points, "strengths with intervals": intervals, "100 bootstraps": bootstraps, "alpha": alphas}
# Where a task takes minutes or gigabytes: measured up to this many votes.
UP_TO = {("100 bootstraps", "evalica"): 100_000, ("strengths", "choix"): 1_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write a table in Markdown")
    options = parser.parse_args()
    lines: list[Line] = []
    for n in options.votes:
        votes = simulate(n)
        for task, prepare in TASKS.items():
            reference = None
            for package, run in prepare(votes).items():
                if n > UP_TO.get((task, package), n):
                    continue
                seconds, result = measure(run, options.repetitions)
                apart = None
                if result is not None and task != "100 bootstraps":
                    centred = result - result.mean() if result.ndim else result
                    reference = centred if reference is None else reference
                    apart = float(np.abs(centred - reference).max())
                lines.append(Line(task, n, package, seconds, apart))
                print(f"{task:26} {n:>10,} {package:26} {seconds:9.4f} s  apart {apart}", flush=True)
    if options.out:
        options.out.write_text(document(lines))


def document(lines: list[Line]) -> str:
    packages = ("numpy", "evalica", "arena-rank", "choix", "crowd-kit", "krippendorff")
    found = ", ".join(f"{name} {version(name)}" for name in packages)
    rows = [
        f"| {one.task} | {one.votes:,} | {one.package} | {one.seconds:.3g} "
        f"| {'' if one.apart is None else f'{one.apart:.1e}'} |"
        for one in lines
    ]
    return "\n".join(
        [
            "# How long the statistics take",
            "",
            f"Written by `make perf` (tests/perf/votes.py, which says what is timed) on {platform.machine()} with "
            f"{os.cpu_count()} cores,",
            f"Python {platform.python_version()}, {found}.",
            "Median seconds; *apart* is the largest difference from our estimates, in log-odds or alpha.",
            "",
            "| task | votes | package | seconds | apart |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
