"""Muon for matrices, in float32 and batched over equal shapes.

torch.optim.Muon runs Newton-Schulz one matrix at a time in bfloat16, which a CPU without bfloat16 units emulates:
1.25 s a step on the shapes network, against 0.04 s here. On a GPU either will do.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Keller Jordan, 2024; coefficients as in torch.optim.Muon). Takes 2-D parameters."""

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "Muon takes one gradient a step"
        for group in self.param_groups:
            equal: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    equal[matrix.shape].append(matrix)
            for matrices in equal.values():
                self._step(matrices, group)

    def _step(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        ahead = []
        for matrix in matrices:
            assert matrix.grad is not None
            velocity = self.state[matrix].setdefault("velocity", torch.zeros_like(matrix))
            velocity.lerp_(matrix.grad, 1 - group["momentum"])
            ahead.append(matrix.grad.lerp(velocity, group["momentum"]))  # Nesterov
        rows, columns = matrices[0].shape
        for matrix, update in zip(matrices, orthogonal(torch.stack(ahead))):
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrices: Float[Tensor, "batch rows columns"], rounds: int = 5) -> Float[Tensor, "batch rows columns"]:
    """Singular values moved to about 1 (0.7 to 1.2) by the quintic Newton-Schulz iteration, singular vectors kept."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(rounds):
        square = x @ x.transpose(1, 2)
        x = 3.4445 * x + torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315) @ x
    return x.transpose(1, 2) if tall else x
