"""What a pipeline told its transformer in one step, and how to tell it again at any state and time.

All that families differ in is a `Form`: which argument is the state (packed, in a list, or with conditions behind it),
which are the time (in thousands, reversed, a number for each token), the output's sign, and how guidance puts two
outputs together. A state may be of several streams, such as picture and sound (LTX-2): it is then flat, one behind the
other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from models.flow import Times
from models.sde import State
from palate.errors import DataError

Arguments = dict[str, Any]
CLOCKS = {"as told": (1.0, 0.0), "a share": (1e-3, 0.0), "a share reversed": (-1e-3, 1.0)}  # argument = a told + b


class PipelineError(DataError):
    """A pipeline that cannot be replayed."""


@dataclass(frozen=True)
class Stream:
    """One part of the state.

    Attributes:
        state: name of the argument, and `place`: which of the transformer's outputs answers it.
        shape: of the state of one sample, as the transformer takes it, without conditions behind it.
        sample: the same as the scheduler has it.
        listed: the argument is a list with an entry for each of the batch.
        guidance: velocity = first + guidance (second - first) of the step's two calls; None where there is one call.
        rescaled: the guided output gets the length of the first along its last dim (QwenImage).
    """

    state: str
    place: int
    shape: tuple[int, ...]
    sample: tuple[int, ...]
    listed: bool
    guidance: float | None
    rescaled: bool


@dataclass(frozen=True)
class Form:
    """How a pipeline talks to its transformer. `times` are arguments and keys of CLOCKS; `sign` is of all outputs."""

    streams: tuple[Stream, ...]
    times: tuple[tuple[str, str], ...]
    sign: int

    @property
    def unguided(self) -> int | None:
        """Which of a step's two calls guidance leads away from: the one that weighs less than the other."""
        guidance = self.streams[0].guidance
        return None if guidance is None else int(guidance < 0.5)

    def apart(self, x: State) -> list[State]:
        """A state's streams, each as the scheduler has it."""
        if len(self.streams) == 1:
            return [x]
        parts = x.split([math.prod(stream.sample) for stream in self.streams], dim=1)
        return [part.reshape(len(x), *stream.sample) for part, stream in zip(parts, self.streams)]

    def together(self, parts: Sequence[State]) -> State:
        return parts[0] if len(parts) == 1 else torch.cat([part.flatten(1) for part in parts], dim=1)


@dataclass(frozen=True)
class Call:
    """A call's arguments, the state left out: those with an entry for `each` of the batch, and those that all share."""

    each: Arguments
    shared: Arguments

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple((name, getattr(value, "shape", None)) for name, value in self.each.items())


@dataclass(frozen=True)
class Told:
    """Of each of a step's calls, for one prompt.

    `behind` is what follows the state along its first dim: reference tokens, or channels that say what is given.
    """

    calls: tuple[Call, ...]
    behind: Tensor | None

    @cached_property
    def shape(self) -> tuple[Any, ...]:
        """Of all arguments: what two prompts have to share to be told in one call."""
        return tuple(call.shape for call in self.calls)

    def to(self, device: torch.device | str) -> "Told":
        calls = tuple(Call(_moved(call.each, device), _moved(call.shared, device)) for call in self.calls)
        return Told(calls, _moved(self.behind, device))


@dataclass(frozen=True)
class Conditions:
    """What was told for some prompts, and which of them each row of a batch is of.

    Rows are put together when they are evaluated, those of one shape in one call, so prompts of different length may be
    in one batch.
    """

    told: tuple[Told, ...]
    rows: tuple[int, ...]

    @classmethod
    def of(cls, told: Sequence[Told]) -> "Conditions":
        return cls(tuple(told), tuple(range(len(told))))

    def __getitem__(self, rows: Tensor) -> "Conditions":
        return Conditions(self.told, tuple(self.rows[row] for row in rows.tolist()))

    def to(self, device: torch.device | str) -> "Conditions":
        """On another device, and of the prompts only those that the rows are of."""
        kept = sorted(set(self.rows))
        return Conditions(tuple(self.told[row].to(device) for row in kept), tuple(kept.index(row) for row in self.rows))

    @cached_property
    def behind(self) -> Tensor | None:
        found = [self.told[row].behind for row in self.rows]
        return None if found[0] is None else torch.cat([one for one in found if one is not None])

    @cached_property
    def calls(self) -> list[Arguments]:
        """The arguments of each call for the whole batch, whose prompts are of one shape."""
        return [self._each([which]) | call.shared for which, call in enumerate(self.told[self.rows[0]].calls)]

    @cached_property
    def at_once(self) -> Arguments | None:
        """The arguments of both calls as those of one, of twice as many rows; None where the two cannot be put so."""
        first, second = self.told[self.rows[0]].calls
        if first.shape != second.shape or not _same(first.shared, second.shared):
            return None
        return self._each([0, 1]) | first.shared

    def _each(self, calls: Sequence[int]) -> Arguments:
        told = [self.told[row].calls[which].each for which in calls for row in self.rows]
        return {name: _together([one[name] for one in told]) for name in told[0]}


def _moved(value: Any, device: torch.device | str) -> Any:
    """Tensors in lists, tuples and dictionaries too."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _moved(one, device) for name, one in value.items()}
    return type(value)(_moved(one, device) for one in value) if isinstance(value, list | tuple) else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _together(values: list[Any]) -> Any:
    if isinstance(values[0], list):
        return [entry for value in values for entry in value]
    return torch.cat(values)


def replayed(
    form: Form,
    network: nn.Module,
    x: State,
    told: Times,
    conditions: Conditions,
    unguided: State | None = None,
) -> State:
    """What the network says to the scheduler of states x (batch, ...) at times as the scheduler would tell them.

    Gradients go through the guided call alone, as in flow_grpo: half the activations to keep, half the way back. Where
    none are asked for both calls are made as one.
    `unguided` is what `unguided_of` said of the same network, states and times, where that is known.
    """
    velocities = []
    for stream, outputs in zip(form.streams, zip(*_answers(form, network, x, told, conditions, unguided))):
        velocities.append(form.sign * guided([one.to(x.dtype) for one in outputs], stream.guidance, stream.rescaled))
    return form.together(velocities)


def _answers(
    form: Form, network: nn.Module, x: State, told: Times, conditions: Conditions, unguided: State | None
) -> list[tuple[Tensor, ...]]:
    """Of each of a step's calls, what the network says of each stream."""
    alone = form.unguided is None or unguided is not None or torch.is_grad_enabled()
    if not alone and conditions.at_once is not None:
        behind = None if conditions.behind is None else torch.cat([conditions.behind] * 2)
        both = _said(form, network, torch.cat([x, x]), told.repeat(2), conditions.at_once, behind)
        return list(zip(*(one.chunk(2) for one in both)))
    found: list[tuple[Tensor, ...]] = []
    for which, arguments in enumerate(conditions.calls):
        if which != form.unguided:
            found.append(_said(form, network, x, told, arguments, conditions.behind))
        else:
            said = unguided_of(form, network, x, told, conditions) if unguided is None else unguided
            found.append(tuple(form.apart(said)))
    return found


@torch.no_grad()
def unguided_of(form: Form, network: nn.Module, x: State, told: Times, conditions: Conditions) -> State:
    """What the network says in the call that guidance leads away from, shaped as the state."""
    assert form.unguided is not None
    said = _said(form, network, x, told, conditions.calls[form.unguided], conditions.behind)
    return form.together([one.to(x.dtype) for one in said])


def _said(
    form: Form, network: nn.Module, x: State, told: Times, arguments: Arguments, behind: Tensor | None
) -> tuple[Tensor, ...]:
    """The network's answer to one call, for each stream."""
    call, parts = dict(arguments), form.apart(x)
    for stream, part in zip(form.streams, parts):
        state = part.reshape(len(x), *stream.shape)
        if behind is not None:
            state = torch.cat([state, behind.to(state.dtype)], dim=1)
        state = state.to(call.pop(stream.state).dtype)
        call[stream.state] = list(state) if stream.listed else state
    for name, clock in form.times:
        scale, offset = CLOCKS[clock]
        like = call[name]
        now = (scale * told.double() + offset).to(like.dtype)
        call[name] = now.view(-1, *[1] * (like.ndim - 1)).expand(-1, *like.shape[1:])
    return outputs_of(network(**call), parts)


def outputs_of(output: Any, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What the transformer says of each stream: reference tokens behind a state are cut off."""
    said = output if isinstance(output, tuple) else (output if isinstance(output, Tensor | list) else output.sample,)
    return tuple(_cut(one, other) for one, other in zip(said, like))


def _cut(found: Any, like: Tensor) -> Tensor:
    found = torch.stack(list(found)) if isinstance(found, list | tuple) else found
    if found.numel() > like.numel():
        found = found[:, : like.shape[1]]
    return found.reshape(like.shape)


def guided(outputs: list[Tensor], guidance: float | None, rescaled: bool) -> Tensor:
    if guidance is None:
        return outputs[0]
    first, second = outputs
    found = first + guidance * (second - first)
    return found * (first.norm(dim=-1, keepdim=True) / found.norm(dim=-1, keepdim=True)) if rescaled else found
