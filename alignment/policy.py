"""What an algorithm asks of a generator, and the network of a run with its earlier weights."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models import flow
from models.codec import Clips
from models.conditions import tokens
from models.dit import Words
from models.generator import Generator
from models.guide import Guide
from models.sde import State


class Conditions(Protocol):
    """What a generator was asked, with a row for each prompt: a tensor, or anything that rows can be taken of."""

    def __getitem__(self, rows: Tensor, /) -> Any: ...

    def to(self, device: torch.device | str, /) -> Any: ...


class Policy(Protocol):
    """A generator as an algorithm sees it. Conditions are made once a rollout, for each prompt once."""

    def conditions(self, prompts: Sequence[str]) -> Conditions: ...

    def noise(self, count: int, rng: torch.Generator) -> State:
        """Drawn on the CPU, whatever the device, so that it is the same on every machine."""
        ...

    def velocity(
        self, network: nn.Module, x: State, t: flow.Times, conditions: Any, unguided: State | None = None
    ) -> State:
        """The velocity eps - x0 that `network` predicts at x_t; `unguided` where that is known."""
        ...

    def unguided(self, network: nn.Module, x: State, t: flow.Times, conditions: Any) -> State | None:
        """What guidance leads away from, of the same: no gradient goes through it. None without guidance."""
        ...

    def clips(self, latents: State) -> Clips:
        """uint8 (batch, frames, height, width, 3)."""
        ...


class InBatches:
    """A policy that evaluates its network on `batch` rows at a time; 0 is all of them.

    With gradients each batch's forward pass is done again in the backward pass, so that the activations of one batch
    are in memory at a time. That is gradient accumulation which no algorithm needs to know of, for one forward pass
    more. `precision` is what the network computes in where its weights are float32; velocities are as wide as states.
    """

    def __init__(self, policy: Policy, batch: int = 0, precision: torch.dtype = torch.float32) -> None:
        self.policy, self.batch, self.precision = policy, batch, precision
        self.conditions, self.noise, self.clips = policy.conditions, policy.noise, policy.clips

    def velocity(
        self, network: nn.Module, x: State, t: flow.Times, conditions: Any, unguided: State | None = None
    ) -> State:
        def of(rows: Tensor) -> State:
            known = None if unguided is None else unguided[rows]
            with self._computing(x):
                return self.policy.velocity(network, x[rows], t[rows], conditions[rows], known).to(x.dtype)

        parts = self._parts(x)
        if len(parts) > 1 and torch.is_grad_enabled():
            return torch.cat([checkpoint(of, rows, use_reentrant=False) for rows in parts])
        return torch.cat([of(rows) for rows in parts])

    def unguided(self, network: nn.Module, x: State, t: flow.Times, conditions: Any) -> State | None:
        with self._computing(x):
            said = [self.policy.unguided(network, x[rows], t[rows], conditions[rows]) for rows in self._parts(x)]
        known = [one.to(x.dtype) for one in said if one is not None]
        return torch.cat(known) if known else None

    def _parts(self, x: State) -> tuple[Tensor, ...]:
        return torch.arange(len(x), device=x.device).split(self.batch or len(x))

    def _computing(self, x: State) -> torch.autocast:
        return torch.autocast(x.device.type, self.precision, enabled=self.precision != torch.float32)


def trained(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]


class Kept(nn.Module):
    """Weights that a network had earlier: of those that are trained. The frozen ones are the network's own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for place, p in enumerate(trained(network)):
            self.register_buffer(str(place), p.detach().clone())

    def move_toward(self, network: nn.Module, decay: float) -> None:
        """kept = decay kept + (1 - decay) network, weight by weight; 0 makes it a copy."""
        with torch.no_grad():
            for old, new in zip(self.buffers(), trained(network), strict=True):
                old.lerp_(new, 1 - decay)


class Learner(nn.Module):
    """The network that learns, and weights it had: where it started (`reference`), when it drew (`behaviour`).

    Where a `guide` is taught in its stead, the network is frozen. Together they are one module, so that the training
    loop saves and restores all that a run depends on. With adapters (models/adapters.py) the earlier weights are
    adapters too, so that a reference costs next to nothing.
    """

    def __init__(
        self, network: nn.Module, reference: bool = False, behaviour: bool = False, guide: Guide | None = None
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False) if guide else network
        self.guide = guide
        self.reference = Kept(network) if reference else None
        self.behaviour = Kept(network) if behaviour else None

    @contextmanager
    def under(self, kept: Kept | None) -> Iterator[nn.Module]:
        """The network with earlier weights (None: with its own), and without gradients.

        Weights are exchanged in place and put back to the last bit, so a backward pass may begin before and end after.
        """
        with torch.no_grad():
            self._exchange(kept)
            try:
                with self._no_idle_adapters() if kept else nullcontext():
                    yield self.network
            finally:
                self._exchange(kept)

    def _no_idle_adapters(self) -> AbstractContextManager[None]:
        """Adapters as they begin say nothing, so a reference with them costs what the network costs without."""
        if not any("lora_B" in name for name, _ in self.network.named_parameters()):
            return nullcontext()
        from models.adapters import idle_ones_off

        return idle_ones_off(self.network)

    def _exchange(self, kept: Kept | None) -> None:
        for old, now in zip(kept.buffers() if kept else (), trained(self.network)):
            held = now.detach().clone()
            now.data.copy_(old)
            old.copy_(held)


class Led:
    """A policy as a guide leads it. Satisfies Policy."""

    def __init__(self, policy: Policy, guide: Guide) -> None:
        self.policy, self.guide = policy, guide
        self.conditions, self.noise, self.clips = policy.conditions, policy.noise, policy.clips
        self.unguided = policy.unguided

    def velocity(
        self, network: nn.Module, x: State, t: flow.Times, conditions: Any, unguided: State | None = None
    ) -> State:
        s = flow.like(t, x)
        lead = self.guide.leading(
            lambda x, t: x - s * self.policy.velocity(network, x, t, conditions, unguided),
            lambda x, t: x - s * self.policy.velocity(self.guide.network, x, t, conditions),
        )
        return (x - lead(x, t)) / s


class ShapesPolicy:
    """The shapes generator as a policy: conditions are word numbers, and its network predicts x0."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def conditions(self, prompts: Sequence[str]) -> Words:
        return tokens(prompts).to(self.generator.device)

    def noise(self, count: int, rng: torch.Generator) -> State:
        shape = self.generator.network.shape
        return torch.randn(count, shape.tokens, shape.channels, generator=rng).to(self.generator.device)

    def velocity(
        self, network: nn.Module, x: State, t: flow.Times, conditions: Tensor, unguided: State | None = None
    ) -> State:
        return flow.velocity(network(x, t, conditions), x, t)

    def unguided(self, network: nn.Module, x: State, t: flow.Times, conditions: Tensor) -> None:
        """The one call is the guided one."""

    def clips(self, latents: State) -> Clips:
        return self.generator.codec.decode(latents)
