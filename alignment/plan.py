"""What a run would cost, before any of it is done."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from alignment.policy import Policy


@dataclass(frozen=True)
class Plan:
    """What a run would cost. An evaluation is one sample through the network; a backward pass counts as two."""

    parameters: int
    frozen: int
    samples_a_step: float
    evaluations_a_round: float
    rounds: int
    bytes: int

    def text(self) -> str:
        return (
            f"{self.parameters:,} parameters learn and {self.frozen:,} are frozen; {self.samples_a_step:g} samples a "
            f"step; {self.rounds} rounds of {self.evaluations_a_round:,.0f} evaluations; about "
            f"{self.bytes / 2**20:,.0f} MiB for weights, optimiser, copies and what an update keeps to go backward"
        )


def bytes_for_backward(policy: Policy, network: nn.Module, prompt: str) -> int:
    """Measured on one sample: what a forward pass keeps beside the weights."""
    own = (p.to_local() if isinstance(p, DTensor) else p for p in network.parameters())
    weights = {p.untyped_storage().data_ptr() for p in own}
    kept: dict[int, int] = {}

    def note(saved: torch.Tensor) -> torch.Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    conditions = policy.conditions([prompt])
    x = policy.noise(1, torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        policy.velocity(network, x, torch.ones(1, device=x.device), conditions)
    return sum(kept.values())
