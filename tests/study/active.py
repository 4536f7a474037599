"""How many votes the active design saves, by simulation with known truth: writes docs/active.md. Run by `make study`.

Eight systems whose strengths are known vote by vote: answers fall by Rao and Kupper's law with a third of ties between
equals. Both designs ask 40 pairs, look, and ask again; one draws its pairs uniformly, the other by `active.top_two`.
"""

import argparse
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotation.active import believed, top_two
from annotation.simulate import rao_kupper

Floats = NDArray[np.float64]

TRUTH = np.array([0.5, 0.2, 0.0, -0.3, -0.6, -0.9, -1.2, -1.5])
TIE = 2.45
ROUND = 40
ROUNDS = 30
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "active.md"


@dataclass(frozen=True)
class Walks:
    """Studies of one design, looked at after every round.

    Attributes:
        right: (studies, rounds) bool, whether the system believed to be the best is.
        width: (studies, rounds) of the 95% interval of the best's lead over the second, in logits.
    """

    right: NDArray[np.bool_]
    width: Floats

    def found(self, drawn: NDArray[np.int_] | slice = slice(None)) -> int:
        """From how many votes on nine of ten studies believe in the right one; a round more than asked if never."""
        share = self.right[drawn].mean(0)
        return ROUND * (int(np.flatnonzero(np.append(share < 0.9, False)).max(initial=-1)) + 2)

    def narrow(self, width: float, drawn: NDArray[np.int_] | slice = slice(None)) -> int:
        """From how many votes on the mean width is at most this; a round more than asked if never."""
        wide = self.width[drawn].mean(0) > width
        return ROUND * (int(np.flatnonzero(wide).max(initial=-1)) + 2)


def walks(studies: int, active: bool) -> Walks:
    """Studies with seeds 0, 1, ...; the strengths are dealt to the systems at random in each."""
    everyone = np.array(list(combinations(range(len(TRUTH)), 2)))
    right, width = np.zeros((studies, ROUNDS), bool), np.zeros((studies, ROUNDS))
    for seed in range(studies):
        rng = np.random.default_rng(seed)
        truth = rng.permutation(TRUTH)
        second, best = truth.argsort()[-2:]
        good, same, _ = rao_kupper(truth[:, None] - truth, TIE)
        points = np.zeros((len(truth), len(truth)))
        for step in range(ROUNDS):
            pairs = top_two(points, ROUND, rng) if active else everyone[rng.integers(len(everyone), size=ROUND)]
            i, j = np.array(pairs).T
            draw = rng.random(ROUND)
            won = np.where(draw < good[i, j], 1.0, np.where(draw < (good + same)[i, j], 0.5, 0.0))
            np.add.at(points, (i, j), won)
            np.add.at(points, (j, i), 1 - won)
            strength, covariance = believed(points)
            variance = covariance[best, best] + covariance[second, second] - 2 * covariance[best, second]
            right[seed, step], width[seed, step] = strength.argmax() == best, 2 * 1.96 * np.sqrt(variance)
    return Walks(right, width)


def document(uniform: Walks, active: Walks) -> str:
    studies = len(uniform.right)
    target = float(uniform.width[:, -1].mean())
    drawn = np.random.default_rng(0).integers(studies, size=(2000, studies))

    def row(name: str, votes: tuple[int, int], again: list[tuple[int, int]]) -> str:
        low, high = np.quantile([1 - few / many for many, few in again], [0.025, 0.975])
        return f"| {name} | {votes[0]} | {votes[1]} | {1 - votes[1] / votes[0]:.0%} [{low:.0%}, {high:.0%}] |"

    found = row(
        "the best is found in 9 of 10 studies",
        (uniform.found(), active.found()),
        [(uniform.found(one), active.found(one)) for one in drawn],
    )
    narrow = row(
        f"the best's lead over the second is known to {target:.2f} logits (width of 95%)",
        (uniform.narrow(target), active.narrow(target)),
        [(uniform.narrow(target, one), active.narrow(target, one)) for one in drawn],
    )
    return "\n".join(
        [
            "# What the active design saves",
            "",
            "Written by `make study` (tests/study/active.py, which says how the studies are simulated):",
            f"{studies} studies of each design, eight systems, looked at every {ROUND} votes up to {ROUND * ROUNDS}.",
            "In brackets: the 95% interval of the simulation, from a bootstrap over studies.",
            "",
            "| from here on ... | votes, pairs at random | votes, active | saved |",
            "|---|---|---|---|",
            found,
            narrow,
            "",
            "The last of the eight are hardly asked about, and their order stays unknown; for a full ranking, and for",
            "an interval that is to be published, plan a uniform study.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--out", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    text = document(walks(options.studies, active=False), walks(options.studies, active=True))
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
