"""A step of reward training beside the layout of VideoAlign's trainer, which encodes both videos of every pair anew.

Same weights, pairs, loss and gradient. The pairs are as in its training set: 182,000 pairs of 108,000 videos, 3.4
sides a video; here 7 videos and 12 pairs a prompt. CPU seconds of one thread, the least of several rounds, because a
machine that is shared makes a round longer and never shorter.

    python tests/perf/reward_training.py --out docs/speed-rewards.md
"""

import argparse
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.weights import SHIPPED
from palate.report_text import table
from rewards.encoder import BLIND
from rewards.preference import mean_over, with_ties
from rewards.shapes_encoder import Prepared, ShapesEncoder

AXES = ("motion_quality", "overall", "prompt_following", "visual_quality")
VIDEOS, PAIRS, PROMPTS, ROUNDS = 7, 12, 4, 5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoder = ShapesEncoder.from_generator(SHIPPED, AXES, BLIND, layers=4)
    shape = encoder.body.shape
    videos: list[Prepared] = [
        (torch.randn(shape.tokens, shape.channels), torch.randint(1, shape.words, (shape.caption,)), torch.zeros(()))
        for _ in range(VIDEOS * PROMPTS)
    ]
    rng = np.random.default_rng(0)
    every = list(combinations(range(VIDEOS), 2))
    pairs = [
        (prompt * VIDEOS + every[one][0], prompt * VIDEOS + every[one][1])
        for prompt in range(PROMPTS)
        for one in rng.choice(len(every), PAIRS, replace=False)
    ]
    first, second = torch.tensor(pairs).T
    shares = torch.eye(3)[torch.randint(0, 3, (len(pairs), len(AXES)))]

    def loss(lead: Tensor) -> Tensor:
        return mean_over(with_ties(lead, shares, torch.tensor(0.9), "rao_kupper"), torch.ones_like(lead))

    def once() -> tuple[Tensor, int]:
        used, place = torch.stack([first, second]).unique(return_inverse=True)
        scores = encoder([videos[row] for row in used])
        return loss(scores[place[0]] - scores[place[1]]), len(used)

    def pair_by_pair() -> tuple[Tensor, int]:
        ours, theirs = (encoder([videos[row] for row in side]) for side in (first, second))
        return loss(ours - theirs), 2 * len(pairs)

    ours, theirs = (_timed(encoder, step) for step in (once, pair_by_pair))
    error = max(
        float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in zip(ours[2], theirs[2]) if b.norm() > 1e-9
    )
    rows = [
        [name, str(count), f"{count / len(pairs):.2f}", f"{seconds:.2f}", f"{len(pairs) / seconds:.1f}"]
        for name, (count, seconds, _) in (("each video once", ours), ("both videos of each pair", theirs))
    ]
    head = ["a step encodes", "videos", "videos a pair", "CPU seconds", "pairs a CPU second"]
    found = (
        f"{len(pairs)} pairs, {PROMPTS} prompts, {len(videos)} videos; {ROUNDS} rounds each, the least; torch "
        f"{torch.__version__}. Encodings {theirs[0] / ours[0]:.2f} times fewer, "
        f"pairs a second {theirs[1] / ours[1]:.2f} times as many; gradients differ by {error:.1e} at most, relatively."
    )
    out.write_text(
        f"# Speed of reward training\n\n{(__doc__ or '').strip()}\n\n```\n{table(head, rows)}\n```\n\n{found}\n"
    )
    print(out.read_text())


def _timed(encoder: ShapesEncoder, step: Callable[[], tuple[Tensor, int]]) -> tuple[int, float, list[Tensor]]:
    """Videos encoded, least CPU seconds, and the gradients of a step."""
    spent: list[float] = []
    count = 0
    for _ in range(ROUNDS):
        encoder.zero_grad()
        began = time.process_time()
        loss, count = step()
        loss.backward()
        spent.append(time.process_time() - began)
    return count, min(spent), [p.grad.clone() for p in encoder.parameters() if p.grad is not None]


if __name__ == "__main__":
    main()
