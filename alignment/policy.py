"""What an algorithm asks of a generator, and the networks of a run."""

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models import flow
from models.codec import Clips
from models.conditions import tokens
from models.dit import Words
from models.generator import Generator
from models.sde import State


class Conditions(Protocol):
    """What a generator was asked, with a row for each prompt: a tensor, or anything that rows can be taken of."""

    def __getitem__(self, rows: Tensor, /) -> Any: ...


class Policy(Protocol):
    """A generator as an algorithm sees it. Conditions are made once a rollout, for each prompt once.

    The network is an argument, because an algorithm has up to three of them: see `Learner`.
    """

    def conditions(self, prompts: Sequence[str]) -> Conditions: ...

    def noise(self, count: int, rng: torch.Generator) -> State: ...

    def velocity(self, network: nn.Module, x: State, t: flow.Times, conditions: Any) -> State:
        """The velocity eps - x0 that `network` predicts at x_t."""
        ...

    def clips(self, latents: State) -> Clips:
        """uint8 (batch, frames, height, width, 3)."""
        ...


class Learner(nn.Module):
    """The network that learns, and frozen copies: of where it started (`reference`), of who draws (`behaviour`).

    Together they are one module, so that the training loop saves and restores all that a run depends on.
    """

    def __init__(self, network: nn.Module, reference: bool = False, behaviour: bool = False) -> None:
        super().__init__()
        self.network = network
        self.reference = _frozen(network) if reference else None
        self.behaviour = _frozen(network) if behaviour else None


def _frozen(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).requires_grad_(False)


def moved_toward(kept: nn.Module, network: nn.Module, decay: float) -> None:
    """kept = decay kept + (1 - decay) network, weight by weight; 0 makes it a copy."""
    with torch.no_grad():
        for old, new in zip(kept.parameters(), network.parameters(), strict=True):
            old.lerp_(new, 1 - decay)


class ShapesPolicy:
    """The shapes generator as a policy: conditions are word numbers, and its network predicts x0."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def conditions(self, prompts: Sequence[str]) -> Words:
        return tokens(prompts).to(self.generator.device)

    def noise(self, count: int, rng: torch.Generator) -> State:
        shape = self.generator.network.shape
        return torch.randn(count, shape.tokens, shape.channels, generator=rng, device=self.generator.device)

    def velocity(self, network: nn.Module, x: State, t: flow.Times, conditions: Tensor) -> State:
        return flow.velocity(network(x, t, conditions), x, t)

    def clips(self, latents: State) -> Clips:
        return self.generator.codec.decode(latents)
