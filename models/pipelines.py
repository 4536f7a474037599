"""Any diffusers pipeline of a flow model as a velocity, by trace and replay.

A pipeline is run for two denoise steps while what it tells its transformer, and what it tells its scheduler, is noted.
From the two steps follows all that families differ in: which argument is the state (packed, in a list, or with
conditions behind it) and which the time (in thousands, reversed, a number for each token), the output's sign, and how
guidance puts two outputs together. What was noted is then replayed at any state and time. A pipeline whose own outputs
the replay does not give again is refused, with the reason, so there is no list of families to keep up.

Checked on tiny random Wan 2.1 and 2.2, HunyuanVideo 1.5, SD3, Flux, Flux 2, QwenImage and Z-Image
(tests/test_models_pipelines.py). CogVideoX is no flow, and refused. LTX-2, which moves sound beside the picture, has
not been tried.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.flow import Times
from models.sde import State
from palate.errors import DataError

Arguments = dict[str, Any]
CLOCKS = {"thousands": (1000.0, 0.0), "as it is": (1.0, 0.0), "reversed": (-1.0, 1.0)}  # argument = a t + b
CLOSE = 1e-5  # the largest error of a replay, as a share of the output's root mean square


class PipelineError(DataError):
    """A pipeline that cannot be replayed."""


@dataclass(frozen=True)
class Form:
    """How a pipeline talks to its transformer.

    Attributes:
        state, time: names of the arguments.
        clock: key of CLOCKS.
        listed: the state is a list with an entry for each of the batch.
        shape: of the state of one sample, as the transformer takes it, without conditions behind it.
        sign: of the transformer's output.
        guidance: velocity = first + guidance (second - first) of its two calls; None where there is one call.
        rescaled: the guided output gets the length of the first along its last dim (QwenImage).
    """

    state: str
    time: str
    clock: str
    listed: bool
    shape: tuple[int, ...]
    sign: int
    guidance: float | None
    rescaled: bool


@dataclass(frozen=True)
class Call:
    """A call's arguments, the state left out: those with an entry for `each` of the batch, and those that all share."""

    each: Arguments
    shared: Arguments

    def __getitem__(self, rows: Tensor) -> "Call":
        def taken(value: Tensor | list[Any]) -> Any:
            return value[rows] if isinstance(value, Tensor) else [value[int(row)] for row in rows]

        return Call({name: taken(value) for name, value in self.each.items()}, self.shared)


@dataclass(frozen=True)
class Conditions:
    """Of each of a step's calls.

    `behind` is what follows the state along its first dim: reference tokens, or channels that say what is given.
    """

    calls: tuple[Call, ...]
    behind: Tensor | None

    def __getitem__(self, rows: Tensor) -> "Conditions":
        return Conditions(tuple(call[rows] for call in self.calls), None if self.behind is None else self.behind[rows])


@dataclass(frozen=True)
class _Step:
    calls: list[tuple[Arguments, Any]]
    output: Tensor  # what the scheduler was told
    t: float
    sample: Tensor


class TracedPipeline:
    """A pipeline as a policy (alignment.policy.Policy); `network` is what learns.

    Args:
        pipeline: of diffusers, with its weights.
        call: arguments of every call, such as height, num_frames and guidance_scale. Without guidance an evaluation
            costs half, and reinforcement learning takes its place.

    Raises PipelineError for a pipeline that cannot be replayed.
    """

    def __init__(self, pipeline: Any, **call: Any) -> None:
        prediction = pipeline.scheduler.config.get("prediction_type", "flow_prediction")
        if not hasattr(pipeline.scheduler, "sigmas") or prediction != "flow_prediction":
            name = type(pipeline.scheduler).__name__
            raise PipelineError(f"{name} predicts {prediction}", "give a pipeline of a flow model")
        self.pipeline, self.call = pipeline, call
        self.networks = [one for one in (pipeline.transformer, getattr(pipeline, "transformer_2", None)) if one]
        self.boundary = float(pipeline.config.get("boundary_ratio") or 0.0)  # the second network has times below it
        self.form: Form | None = None  # these three are known from the first trace on
        self.sample_shape: tuple[int, ...] = ()
        self._asked: Arguments = {}

    @property
    def network(self) -> nn.Module:
        return nn.ModuleList(self.networks)

    def conditions(self, prompts: Sequence[str], **also: Any) -> Conditions:
        """Traces each prompt once. All must have conditions of one shape."""
        return stacked([self._trace({"prompt": prompt, **also}) for prompt in prompts])

    def traced(self, **asked: Any) -> Conditions:
        """The same for one prompt told in the pipeline's own arguments, such as `prompt_embeds`."""
        return self._trace(asked)

    def noise(self, count: int, rng: torch.Generator) -> State:
        return torch.randn(count, *self.sample_shape, generator=rng, device=rng.device)

    def velocity(self, network: nn.Module, x: State, t: Times, conditions: Conditions) -> State:
        """Of `network` (like `self.network`) at states x, shaped as the scheduler has them, and times t from 0 to 1."""
        assert self.form is not None, "conditions come from a trace, which finds the form"
        return self._replayed(self.form, network, x, t, conditions)

    def _replayed(self, form: Form, network: nn.Module, x: State, t: Times, conditions: Conditions) -> State:
        """By the network that answers for the times: high ones, or those below the boundary."""
        high = t >= self.boundary
        networks = list(network.children())
        if len(networks) == 1 or bool(high.all()):
            return _velocity(form, networks[0], x, t, conditions)
        if not bool(high.any()):
            return _velocity(form, networks[1], x, t, conditions)
        found = torch.empty_like(x)
        for one, rows in zip(networks, (high, ~high)):
            at = rows.nonzero().flatten()
            found[at] = _velocity(form, one, x[at], t[at], conditions[at])
        return found

    @torch.no_grad()
    def clips(self, latents: State) -> Tensor:
        """Decoded by the pipeline itself: its last step is made to give these latents. uint8 (batch, frames, ...)."""
        made = []
        for one in latents:
            with _replaced_step(self.pipeline, lambda *_, one=one, **__: (one[None],)):
                asked = {**self.call, **self._asked}
                out = self.pipeline(**asked, num_inference_steps=1, output_type="np", return_dict=False)
            made.append(torch.from_numpy(out[0]))
        clips = torch.cat(made)
        return (clips if clips.ndim == 5 else clips[:, None]).mul(255).round().clamp(0, 255).to(torch.uint8)

    @torch.no_grad()
    def _trace(self, asked: Arguments) -> Conditions:
        steps = self._watched(asked)
        known = [self.form] if self.form else []  # found again where a prompt says nothing of guidance, such as ""
        form = next((form for form in (*known, *self._forms(steps)) if self._gives(form, steps)), None)
        if form is None:
            name = type(self.pipeline).__name__
            raise PipelineError(
                f"{name} cannot be replayed from its calls", "use another pipeline, or an older sampler"
            )
        self.form, self.sample_shape, self._asked = form, tuple(steps[0].sample.shape[1:]), asked
        return _conditions(steps[0], form)

    def _gives(self, form: Form, steps: list[_Step]) -> bool:
        """Whether the first step's conditions, replayed in this form, give both steps' outputs."""
        conditions = _conditions(steps[0], form)
        for step in steps:
            t = torch.full((1,), step.t, dtype=torch.float64, device=step.sample.device)
            error = self._replayed(form, self.network, step.sample, t, conditions).float() - step.output.float()
            if not error.square().mean().sqrt() <= CLOSE * step.output.float().square().mean().sqrt():
                return False
        return True

    def _forms(self, steps: list[_Step]) -> Iterator[Form]:
        """Every form that the arguments of both steps fit."""
        first = steps[0].calls[0][0]
        for state, value in first.items():
            shape = _state_shape(value, steps[0].sample)
            if shape is None:
                continue
            for time, clock in ((name, clock) for name in first for clock in CLOCKS):
                if all(_tells(step.calls[0][0].get(time), clock, step.t) for step in steps):
                    listed = isinstance(value, list)
                    for sign in (1, -1):
                        for guidance, rescaled in _guidances(steps[0], sign, self.call):
                            yield Form(state, time, clock, listed, shape, sign, guidance, rescaled)

    def _watched(self, asked: Arguments) -> list[_Step]:
        """Two steps of the pipeline, and everything that was said in them. Batches of two are told as two calls."""
        steps: list[_Step] = []
        calls: list[tuple[Arguments, Any]] = []
        original = self.pipeline.scheduler.step

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments, output: Any) -> None:
            calls.append((dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments), output))

        def step(output: Tensor, t: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            if sample.shape[0] != 1:
                raise PipelineError("a trace of several samples at once", "trace prompts one by one")
            apart = [part for call in calls for part in _apart(call, sample)]
            scale = self.pipeline.scheduler.config.num_train_timesteps
            steps.append(_Step(apart, output.clone(), float(t) / scale, sample.clone()))
            calls.clear()
            return original(output, t, sample, *args, **kwargs)

        hooks = [network.register_forward_hook(note, with_kwargs=True) for network in self.networks]
        try:
            with _replaced_step(self.pipeline, step):
                self.pipeline(**self.call, **asked, num_inference_steps=2, output_type="latent")
        finally:
            for hook in hooks:
                hook.remove()
        return steps


def _velocity(form: Form, network: nn.Module, x: State, t: Times, conditions: Conditions) -> State:
    state = x.reshape(len(x), *form.shape)
    if conditions.behind is not None:
        state = torch.cat([state, conditions.behind.to(state.dtype)], dim=1)
    scale, offset = CLOCKS[form.clock]
    clock = (scale * t.double() + offset).float()
    outputs = []
    for call in conditions.calls:
        told = {**call.each, **call.shared}
        shape = told[form.time].shape[1:]
        now = clock.view(-1, *[1] * len(shape)).expand(-1, *shape)
        told |= {form.state: list(state) if form.listed else state, form.time: now}
        outputs.append(_output(network(**told), x))
    return form.sign * _guided(outputs, form.guidance, form.rescaled)


@contextmanager
def _replaced_step(pipeline: Any, step: Any) -> Iterator[None]:
    pipeline.scheduler.step = step
    try:
        yield
    finally:
        del pipeline.scheduler.step


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output if isinstance(output, Tensor) else output.sample


def _output(output: Any, like: Tensor) -> Tensor:
    """What the transformer says of the state: reference tokens behind it are cut off."""
    found = _first(output)
    found = torch.stack(list(found)) if isinstance(found, list | tuple) else found
    if found.numel() > like.numel():
        found = found[:, : like.shape[1]]
    return found.reshape(like.shape)


def _apart(call: tuple[Arguments, Any], sample: Tensor) -> list[tuple[Arguments, Any]]:
    """A call of a doubled batch (guidance in one pass) as two of one sample each."""
    arguments, output = call
    entries = max((len(value) for value in arguments.values() if _state_shape(value, sample, doubled=True)), default=1)
    if entries == 1:
        return [call]
    return [({name: _half(v, i) for name, v in arguments.items()}, (_half(_first(output), i),)) for i in range(2)]


def _half(value: Any, which: int) -> Any:
    return value[which : which + 1] if isinstance(value, Tensor | list) and len(value) == 2 else value


def _state_shape(value: Any, sample: Tensor, doubled: bool = False) -> tuple[int, ...] | None:
    """The shape of one sample in `value`, where that holds the state (twice, if `doubled`); else None."""
    if isinstance(value, list) and value and all(isinstance(one, Tensor) for one in value):
        value = torch.stack(value)
    if not isinstance(value, Tensor) or value.ndim < 3 or not value.is_floating_point():
        return None
    copies = 2 if doubled else 1
    expected = torch.cat([sample] * copies).to(value.dtype)
    if value.numel() == expected.numel() and len(value) == copies:
        return tuple(value.shape[1:]) if torch.equal(value.reshape(expected.shape), expected) else None
    if value.ndim == sample.ndim and value.shape[1] > sample.shape[1] and value.shape[2:] == sample.shape[2:]:
        return tuple(sample.shape[1:]) if torch.equal(value[:, : sample.shape[1]], expected) else None
    return None


def _tells(value: Any, clock: str, t: float) -> bool:
    if not isinstance(value, Tensor) or value.numel() == 0 or value.is_complex():
        return False
    scale, offset = CLOCKS[clock]
    return bool((value.double() - (scale * t + offset)).abs().max() <= 1e-6 * max(abs(scale), 1))


def _guidances(step: _Step, sign: int, call: Arguments) -> Iterator[tuple[float | None, bool]]:
    """What puts the outputs of a step's calls together, by least squares; and QwenImage's way with its own scale."""
    outputs = [_output(output, step.sample).double() for _, output in step.calls]
    if len(outputs) == 1:
        yield None, False
    elif len(outputs) == 2:
        apart, told = outputs[1] - outputs[0], sign * step.output.double() - outputs[0]
        if apart.abs().max() > 0:
            yield float((apart * told).sum() / apart.square().sum()), False
        if "true_cfg_scale" in call:
            yield 1 - float(call["true_cfg_scale"]), True


def _guided(outputs: list[Tensor], guidance: float | None, rescaled: bool) -> Tensor:
    if guidance is None:
        return outputs[0]
    first, second = outputs
    found = first + guidance * (second - first)
    return found * (first.norm(dim=-1, keepdim=True) / found.norm(dim=-1, keepdim=True)) if rescaled else found


def _conditions(step: _Step, form: Form) -> Conditions:
    state = step.calls[0][0][form.state]
    behind = None
    if isinstance(state, Tensor) and state[0].numel() > step.sample[0].numel():
        behind = state[:, step.sample.shape[1] :]
    calls = []
    for arguments, _ in step.calls:
        told = {name: value for name, value in arguments.items() if name != form.state}
        each = {name: value for name, value in told.items() if _is_batch_of_one(value)}
        calls.append(Call(each, {name: value for name, value in told.items() if name not in each}))
    return Conditions(tuple(calls), behind)


def _is_batch_of_one(value: Any) -> bool:
    return (isinstance(value, list) and len(value) == 1) or (
        isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1
    )


def stacked(traced: Sequence[Conditions]) -> Conditions:
    """Conditions of several prompts as one. Raises PipelineError where prompts of different length differ in shape."""
    first = traced[0]
    calls = []
    for which, call in enumerate(first.calls):
        each = {name: _together([one.calls[which].each[name] for one in traced], name) for name in call.each}
        calls.append(Call(each, call.shared))
    return Conditions(tuple(calls), None if first.behind is None else torch.cat([one.behind for one in traced]))  # type: ignore[misc]


def _together(values: list[Any], name: str) -> Any:
    if isinstance(values[0], list):
        return [entry for value in values for entry in value]
    if len({value.shape for value in values}) > 1:
        raise PipelineError(f"{name} is longer for some prompts than for others", "ask for prompts of one length")
    return torch.cat(values)
