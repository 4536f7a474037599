"""Where on the path from noise to video do people's preferences speak? The gradient of Flow-DPO by noise time.

On the preferences of a demo's record, at the shipped generator: the squared norm of the mean gradient over the mean
squared deviation from it, each tensor scaled to the same size, of batches of 16 pairs. Both are unbiased estimates from
`--batches` batches; the error is a jackknife over them.

    python tests/study/noise_times.py --store demo/palate.db     (4 minutes of one core)
"""

import argparse
from itertools import pairwise

import torch
from torch import Tensor

from alignment.algorithms.dpo import PairErrors, dpo_loss
from alignment.pairs import Pairs, of_record
from alignment.train import DpoRecipe, DpoSetup
from models import flow
from palate.records import Preference
from palate.store import Store

BATCH = 16
EDGES = (0.02, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)


def gradients(network: torch.nn.Module, pairs: Pairs, low: float, high: float, batches: int) -> Tensor:
    """(batches, parameters): of the preference term, at times even between `low` and `high`."""
    rng = torch.Generator().manual_seed(0)
    parameters = list(network.parameters())
    rows: list[Tensor] = []
    for _ in range(batches):
        chosen = torch.randint(len(pairs.weight), (BATCH,), generator=rng)
        x0 = pairs.latents[torch.cat([pairs.winner[chosen], pairs.loser[chosen]])]
        eps = torch.randn(BATCH, *pairs.latents.shape, generator=rng).repeat(2, 1, 1)
        t = (low + (high - low) * torch.rand(BATCH, generator=rng)).repeat(2)
        words = pairs.conditions[pairs.prompt[chosen].repeat(2)]
        found = network(flow.noised(x0, eps, t), t, words)
        errors = flow.velocity_error(found, x0, t).chunk(2)
        loss, _ = dpo_loss(PairErrors(*errors, *(one.detach() for one in errors)), pairs.weight[chosen], beta=100.0)
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)]))
    table = torch.stack(rows)
    for part in table.split([one.numel() for one in parameters], dim=1):
        part /= part.square().mean().sqrt().clamp_min(1e-12)
    return table


def signal_to_noise(products: Tensor) -> float:
    """From the inner products (n, n) of n gradients."""
    n = len(products)
    signal = (products.sum() - products.trace()) / (n * (n - 1))
    return float(signal / (products.trace() / n - signal))


def jackknifed(products: Tensor) -> tuple[float, float]:
    """`signal_to_noise`, and its error from leaving out one gradient at a time."""
    n = len(products)
    without = [[other for other in range(n) if other != one] for one in range(n)]
    found = torch.tensor([signal_to_noise(products[rest][:, rest]) for rest in without])
    return signal_to_noise(products), float(found.std(correction=0)) * (n - 1) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--batches", type=int, default=96)
    told = parser.parse_args()
    with Store(told.store, create=False) as record:
        setup = DpoSetup.of(DpoRecipe(), of_record(record, list(record.select(Preference))))
        pairs = setup.objective(record.media.folder.with_name("latents")).pairs
    print(f"{len(pairs.weight)} preferences, {told.batches} batches of {BATCH}")
    for low, high in pairwise(EDGES):
        rows = gradients(setup.student.network, pairs, low, high, told.batches)
        value, error = jackknifed(rows @ rows.T)
        print(f"t {low:4.2f} to {high:4.2f}: {value:6.3f} +- {error:.3f}", flush=True)


if __name__ == "__main__":
    main()
