"""Two denoise steps of a pipeline, watched at its transformer and at its scheduler, and the form that explains them."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from models.replay import CLOCKS, Arguments, Call, Conditions, Form, PipelineError, Stream, Told, outputs_of

CLOSE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # a replay's error, as a share of the output


@dataclass(frozen=True)
class Step:
    """What the transformer was told and said (arguments and output of each call), and the scheduler: by stream."""

    calls: list[tuple[Arguments, Any]]
    outputs: list[Tensor]
    told: float
    samples: list[Tensor]


@dataclass(frozen=True)
class Said:
    """What was asked, and what was said to it: each output of the networks, and each of the encoding of a prompt."""

    asked: Arguments
    outputs: list[Any]
    prompts: list[Any]


@contextmanager
def noted(pipeline: Any, networks: list[nn.Module], asked: Arguments) -> Iterator[Said]:
    """All that is said while the pipeline is asked once."""
    said, encode = Said(asked, [], []), pipeline.encode_prompt

    def note(*args: Any, **kwargs: Any) -> Any:
        said.prompts.append(encode(*args, **kwargs))
        return said.prompts[-1]

    hooks = [one.register_forward_hook(lambda *told: said.outputs.append(told[2])) for one in networks]
    pipeline.encode_prompt = note
    try:
        yield said
    finally:
        del pipeline.encode_prompt
        for hook in hooks:
            hook.remove()


@contextmanager
def repeated(pipeline: Any, networks: list[nn.Module], said: Said) -> Iterator[None]:
    """Whatever was said is said again, by nobody."""
    outputs, prompts = iter(said.outputs), iter(said.prompts)
    forwards = [network.forward for network in networks]
    for network in networks:
        network.forward = lambda *_, **__: next(outputs)  # type: ignore[method-assign]
    pipeline.encode_prompt = lambda *_, **__: next(prompts)
    try:
        yield
    finally:
        del pipeline.encode_prompt
        for network, forward in zip(networks, forwards):
            network.forward = forward  # type: ignore[method-assign]


@contextmanager
def replaced_step(scheduler: Any, step: Any) -> Iterator[None]:
    """`step(scheduler, output, told, sample, ...)` in place of the scheduler's own. Its copies have it too (LTX-2)."""
    scheduler.step = MethodType(step, scheduler)
    try:
        yield
    finally:
        del scheduler.step


@contextmanager
def replaced_decode(vae: Any, decode: Any) -> Iterator[None]:
    """`decode(latents, ...)` in place of the autoencoder's own, or of what stands there."""
    before, vae.decode = vae.decode, decode
    try:
        yield
    finally:
        vae.decode = before


def watched(pipeline: Any, networks: list[nn.Module], asked: Arguments, count: int) -> list[Step]:
    """`count` steps of the pipeline, and everything that was said in them. Batches of two are told as two calls."""
    steps: list[Step] = []
    calls: list[tuple[Arguments, Any]] = []
    original = type(pipeline.scheduler).step

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments, output: Any) -> None:
        calls.append((dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments), output))

    def step(self: Any, output: Tensor, told: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        if sample.shape[0] != 1:
            raise PipelineError("a trace of several samples at once", "trace prompts one by one")
        if self is pipeline.scheduler:
            steps.append(Step(list(calls), [output.clone()], float(told), [sample.clone()]))
            calls.clear()
        else:  # the copy of the scheduler that has the next stream of the same step
            steps[-1].outputs.append(output.clone())
            steps[-1].samples.append(sample.clone())
        return original(self, output, told, sample, *args, **kwargs)

    hooks = [network.register_forward_hook(note, with_kwargs=True) for network in networks]
    try:
        with replaced_step(pipeline.scheduler, step):
            pipeline(**asked, num_inference_steps=count, output_type="latent")
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Step([part for call in one.calls for part in _apart(call, one.samples)], one.outputs, one.told, one.samples)
        for one in steps
    ]


def explains(form: Form, steps: list[Step], replay: Any) -> bool:
    """Whether the first step's conditions, replayed in this form, give every step's outputs."""
    conditions = Conditions.of([told_in(steps[0], form)])
    for step in steps:
        x = form.together([sample.float() for sample in step.samples])
        told = torch.full((1,), step.told, dtype=torch.float64, device=x.device)
        expected = form.together([output.float() for output in step.outputs])
        error = replay(form, x, told, conditions).float() - expected
        dtype = step.calls[0][0][form.streams[0].state]
        close = CLOSE.get((dtype[0] if isinstance(dtype, list) else dtype).dtype, 1e-4)
        if not error.square().mean().sqrt() <= close * expected.square().mean().sqrt():
            return False
    return True


def forms(steps: list[Step], call: Arguments) -> Iterator[Form]:
    """Every form that the arguments of all steps fit."""
    first = steps[0].calls[0][0]
    times = tuple(
        (name, clock)
        for name in first
        for clock in CLOCKS
        if all(_tells(step.calls[0][0].get(name), clock, step.told) for step in steps)
    )
    states = [
        [(name, shape) for name, value in first.items() if (shape := _state_shape(value, sample)) is not None]
        for sample in steps[0].samples
    ]
    for sign, found in product((1, -1), product(*states)):
        guidances = [_guidances(steps[0], place, sign, call) for place in range(len(found))]
        for chosen in product(*guidances):
            streams = tuple(
                Stream(name, place, shape, tuple(sample.shape[1:]), isinstance(first[name], list), *guidance)
                for place, ((name, shape), sample, guidance) in enumerate(zip(found, steps[0].samples, chosen))
            )
            yield Form(streams, times, sign)


def told_in(step: Step, form: Form) -> Told:
    """Conditions of a step, the states left out but for what tells their type."""
    name = form.streams[0].state
    state, sample = step.calls[0][0][name], step.samples[0]
    behind = None
    if isinstance(state, Tensor) and state[0].numel() > sample[0].numel():
        behind = state[:, sample.shape[1] :]
    calls = []
    for arguments, _ in step.calls:
        each = {key: value for key, value in arguments.items() if _is_batch_of_one(value)}
        shared = {key: value for key, value in arguments.items() if key not in each}
        for stream in form.streams:
            each.pop(stream.state, None)
            shared[stream.state] = torch.empty(0, dtype=_first(arguments[stream.state]).dtype)
        calls.append(Call(each, shared))
    return Told(tuple(calls), behind)


def _first(value: Any) -> Tensor:
    return value[0] if isinstance(value, list) else value


def _apart(call: tuple[Arguments, Any], samples: list[Tensor]) -> list[tuple[Arguments, Any]]:
    """A call of a doubled batch (guidance in one pass) as two of one sample each."""
    arguments, output = call
    if not any(_state_shape(value, samples[0], doubled=True) for value in arguments.values()):
        return [call]
    said = output if isinstance(output, tuple) else (getattr(output, "sample", output),)
    return [
        ({name: _half(v, i) for name, v in arguments.items()}, tuple(_half(one, i) for one in said)) for i in range(2)
    ]


def _half(value: Any, which: int) -> Any:
    return value[which : which + 1] if isinstance(value, Tensor | list) and len(value) == 2 else value


def _state_shape(value: Any, sample: Tensor, doubled: bool = False) -> tuple[int, ...] | None:
    """The shape of one sample in `value`, where that holds the state (twice, if `doubled`); else None."""
    if isinstance(value, list) and value and all(isinstance(one, Tensor) for one in value):
        value = torch.stack(value) if len({one.shape for one in value}) == 1 else None
    if not isinstance(value, Tensor) or value.ndim < 3 or not value.is_floating_point():
        return None
    copies = 2 if doubled else 1
    expected = torch.cat([sample] * copies).to(value.dtype)
    if value.numel() == expected.numel() and len(value) == copies:
        return tuple(value.shape[1:]) if torch.equal(value.reshape(expected.shape), expected) else None
    if value.ndim == sample.ndim and value.shape[1] > sample.shape[1] and value.shape[2:] == sample.shape[2:]:
        return tuple(sample.shape[1:]) if torch.equal(value[:, : sample.shape[1]], expected) else None
    return None


def _tells(value: Any, clock: str, told: float) -> bool:
    if not isinstance(value, Tensor) or value.numel() == 0 or value.is_complex() or value.ndim == 0:
        return False
    scale, offset = CLOCKS[clock]
    exact = 2 * torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
    now = scale * told + offset
    return bool((value.double() - now).abs().max() <= max(exact * abs(now), 1e-6 * max(scale * 1000, 1)))


def _guidances(step: Step, place: int, sign: int, call: Arguments) -> Iterator[tuple[float | None, bool]]:
    """What puts the outputs of a step's calls together, by least squares; and QwenImage's way with its own scale.

    A scale that somebody chose is short: a rounded one comes first, for networks of low precision.
    """
    outputs = [outputs_of(output, step.samples)[place].double() for _, output in step.calls]
    if len(outputs) == 1:
        yield None, False
    elif len(outputs) == 2:
        apart, told = outputs[1] - outputs[0], sign * step.outputs[place].double() - outputs[0]
        if apart.abs().max() > 0:
            scale = float((apart * told).sum() / apart.square().sum())
            yield round(scale, 2), False
            yield scale, False
        if "true_cfg_scale" in call:
            yield 1 - float(call["true_cfg_scale"]), True


def _is_batch_of_one(value: Any) -> bool:
    return (isinstance(value, list) and len(value) == 1) or (
        isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1
    )
