"""Any diffusers pipeline of a flow or a v-predicting model as a velocity, by trace and replay.

A pipeline is run for two denoise steps while what it tells its transformer, and what it tells its scheduler, is noted
(models/trace.py). What was noted is then replayed at any state and time (models/replay.py). A pipeline whose own
outputs the replay does not give again is refused, with the reason, so there is no list of families to keep up.

Checked on tiny random Wan 2.1 and 2.2, LTX-2, HunyuanVideo 1.5, CogVideoX, SD3, Flux, Flux 2, QwenImage and Z-Image
(tests/test_models_pipelines.py). Models that keep the variance instead (CogVideoX: y = a x0 + s eps with a^2 + s^2 = 1)
are seen as flows: x_t = y / (a + s) at t = s / (a + s), in which their deterministic sampler is the Euler step.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from models.encoding import Pixels, Way
from models.flow import Times, like
from models.launch import gathered
from models.replay import Arguments, Conditions, Form, PipelineError, Told, replayed, unguided_of
from models.sde import State
from models.trace import Said, Step, explains, forms, noted, repeated, replaced_decode, replaced_step, told_in, watched


class Path(Protocol):
    """How a model's states and outputs lie to those of the straight path."""

    def told(self, t: Times) -> Times:
        """The scheduler's number for flow time t, float64."""
        ...

    def state(self, x: State, t: Times) -> State: ...

    def velocity(self, output: State, x: State, t: Times) -> State: ...


class Straight:
    """A flow: the output is the velocity."""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def told(self, t: Times) -> Times:
        return t.double() * self.scale

    def state(self, x: State, t: Times) -> State:
        return x

    def velocity(self, output: State, x: State, t: Times) -> State:
        return output


class Preserving:
    """y = a x0 + s eps with output a eps - s x0; `kept` is a^2 of each of the scheduler's times, in their order."""

    def __init__(self, kept: Tensor) -> None:
        a, s = kept.double().sqrt().cpu().numpy(), (1 - kept.double()).sqrt().cpu().numpy()
        self._times = s / (a + s)

    def told(self, t: Times) -> Times:
        """Between the scheduler's times, which are whole numbers, so far between."""
        found = np.interp(t.double().cpu().numpy(), self._times, np.arange(len(self._times)))
        return torch.from_numpy(found).to(t.device)

    def state(self, x: State, t: Times) -> State:
        return x / like(((1 - t).square() + t.square()).to(x.dtype), x).sqrt()

    def velocity(self, output: State, x: State, t: Times) -> State:
        length = like(((1 - t).square() + t.square()).to(x.dtype), x).sqrt()
        now = like(t.to(x.dtype), x)
        return ((2 * now - 1) * self.state(x, t) + output) / length  # (s - a) y + (a + s) output


@dataclass(frozen=True)
class _NetworkCall:
    """A network and the rows that it answers for; `counts` is false for an answer that only others need."""

    network: nn.Module
    rows: Tensor
    counts: bool = True


class _DecodedError(Exception):
    """What was on its way to the decoder is known: the rest of the pipeline's work is not needed."""


class TracedPipeline:
    """A pipeline as a policy (alignment.policy.Policy); `network` is what learns.

    Args:
        pipeline: of diffusers, with its weights.
        call: arguments of every call, such as height, num_frames and guidance_scale. Without guidance an evaluation
            costs half, and reinforcement learning takes its place.

    Raises PipelineError for a pipeline that cannot be replayed.
    """

    def __init__(self, pipeline: Any, **call: Any) -> None:
        self.pipeline, self.call = pipeline, call
        self.path = _path(pipeline.scheduler)
        self.networks = [one for one in (pipeline.transformer, getattr(pipeline, "transformer_2", None)) if one]
        self.network: nn.Module = nn.ModuleList(self.networks)
        self.boundary = float(pipeline.config.get("boundary_ratio") or 0.0)  # the second network has times below it
        self.form: Form | None = None  # these are known from the first trace on
        self._last = Said({}, [], [])
        self._way: Way | None = None  # from a last state to the decoder

    def conditions(self, prompts: Sequence[str], **also: Any) -> Conditions:
        """Traces each prompt once."""
        return Conditions.of([self._trace({"prompt": prompt, **also}) for prompt in prompts])

    def traced(self, **asked: Any) -> Conditions:
        """The same for one prompt told in the pipeline's own arguments, such as `prompt_embeds`."""
        return Conditions.of([self._trace(asked)])

    def noise(self, count: int, rng: torch.Generator) -> State:
        assert self.form is not None, "conditions come from a trace, which finds the form"
        parts = [torch.randn(count, *stream.sample, generator=rng) for stream in self.form.streams]
        return self.form.together(parts).to(self.pipeline.transformer.device)

    def velocity(
        self, network: nn.Module, x: State, t: Times, conditions: Conditions, unguided: State | None = None
    ) -> State:
        """Of `network` (like `self.network`) at states x, shaped as `noise` has them, and times t from 0 to 1."""
        assert self.form is not None, "conditions come from a trace, which finds the form"
        output = self._replayed(network, self.form, self.path.state(x, t), self.path.told(t), conditions, unguided)
        return self.path.velocity(output, x, t)

    def unguided(self, network: nn.Module, x: State, t: Times, conditions: Conditions) -> State | None:
        """What the transformer says where guidance leads away from, shaped like x; None without guidance."""
        assert self.form is not None, "conditions come from a trace, which finds the form"
        form, y, told = self.form, self.path.state(x, t), self.path.told(t)
        if form.unguided is None:
            return None
        return self._together(
            self._calls(network, told, conditions),
            lambda one, at: unguided_of(form, one, y[at], told[at], conditions[at]),
        )

    def _replayed(
        self,
        network: nn.Module,
        form: Form,
        x: State,
        told: Times,
        conditions: Conditions,
        unguided: State | None = None,
    ) -> State:
        def said(one: nn.Module, at: Tensor) -> State:
            known = None if unguided is None else unguided[at]
            return replayed(form, one, x[at], told[at], conditions[at], known)

        return self._together(self._calls(network, told, conditions), said)

    @staticmethod
    def _together(calls: Sequence["_NetworkCall"], said: Callable[[nn.Module, Tensor], State]) -> State:
        """What is said of all rows, in their order. A call that another process needs has no rows here: its answer is
        asked for one row and counts for nothing, forward and backward."""
        answers = [said(call.network, call.rows) for call in calls]
        own = [(call.rows, answer) for call, answer in zip(calls, answers) if call.counts]
        found = torch.cat([answer for _, answer in own])[torch.cat([rows for rows, _ in own]).argsort()]
        for call, answer in zip(calls, answers):
            if not call.counts:
                found = found + 0 * answer.sum()
        return found

    def _calls(self, network: nn.Module, told: Times, conditions: Conditions) -> list["_NetworkCall"]:
        """Which network answers for which rows: one has high times and one those below the boundary; and the rows of a
        call have prompts of one shape.

        Where weights are sharded every process has to call as often as the others, and in one order: of two networks
        all call those that anybody needs. Raises PipelineError there for prompts of several shapes, since the others
        have other prompts.
        """
        shapes = [conditions.told[row].shape for row in conditions.rows]
        sharded = any(isinstance(p, DTensor) for p in network.parameters())
        if len(set(shapes)) > 1 and sharded:
            raise PipelineError(
                "prompts of different length in one batch of a sharded network",
                "evaluate them one by one (rollout.batch=1), give prompts of one length, or generator.shard=false",
            )
        low = (told < self.boundary * self.pipeline.scheduler.config.num_train_timesteps).tolist()
        rows: dict[tuple[bool, Any], list[int]] = {}
        for row, of in enumerate(zip(low, shapes)):
            rows.setdefault(of, []).append(row)
        networks = list(network.children())
        calls = [_NetworkCall(networks[of[0]], torch.tensor(at, device=told.device)) for of, at in rows.items()]
        if not sharded or len(networks) < 2:
            return calls
        own = {of[0]: call for of, call in zip(rows, calls)}
        needed = torch.tensor([which in own for which in (False, True)], dtype=torch.float32, device=told.device)
        wanted = gathered(needed).amax(dim=0).tolist()
        lent = [_NetworkCall(one, torch.zeros(1, dtype=torch.long, device=told.device), False) for one in networks]
        return [own.get(which, lent[which]) for which in (False, True) if wanted[which]]

    @torch.no_grad()
    def clips(self, latents: State) -> Tensor:
        """Decoded by the pipeline itself, whose last step is made to give these. uint8 (batch, frames, ...)."""
        made = [torch.from_numpy(self._ended(one[None], output_type="np")[0]) for one in latents]
        clips = torch.cat(made)
        return (clips if clips.ndim == 5 else clips[:, None]).mul(255).round().clamp(0, 255).to(torch.uint8)

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip, by decoding one."""
        assert self.form is not None, "latents come from a trace, which finds the form"
        nothing = self.form.together([torch.zeros(1, *one.sample) for one in self.form.streams])
        frames, height, width = self.clips(nothing.to(self.networks[0].device)).shape[1:4]
        return frames, height, width

    @torch.no_grad()
    def latents(self, pixels: Pixels) -> State:
        """(1, ...): a clip of the very size that `clips` gives, 0 to 255, as the sampler would have ended with it.

        Raises PipelineError for a pipeline or a size that cannot be encoded.
        """
        assert self.form is not None, "latents come from a trace, which finds the form"
        stream, *others = self.form.streams
        if others:
            name = type(self.pipeline).__name__
            raise PipelineError(
                f"{name} draws sound, which the videos of a record do not have", "use another generator"
            )
        with self._exact_decoder() as vae:
            if self._way is None:
                like = torch.zeros(1, *stream.sample, device=vae.device)
                self._way = Way.of(self._decoded, like)
            seen = (pixels.to(vae.device) / 127.5 - 1).movedim(-1, 0)[None]  # (1, 3, frames, height, width)
            said = vae.encode(seen if len(self._way.shape) == 5 else seen[:, :, 0])
        z = said.latent_dist.mode() if hasattr(said, "latent_dist") else said.latents
        if tuple(z.shape) != self._way.shape:
            raise PipelineError(
                f"a clip {tuple(pixels.shape)} is encoded to {tuple(z.shape)}, where {self._way.shape} are decoded",
                "give a generator.frames, height and width that the pipeline draws itself",
            )
        return self._way.back(z).view(1, *stream.sample)

    @contextmanager
    def _exact_decoder(self) -> Iterator[Any]:
        """The pipeline's autoencoder, for a while in float32."""
        vae = self.pipeline.vae
        told = vae.dtype
        try:
            yield vae if told == torch.float32 else vae.to(torch.float32)
        finally:
            if told != torch.float32:
                vae.to(told)

    def _decoded(self, x: State) -> Tensor:
        """What reaches the decoder of a last state x."""
        found: list[Tensor] = []

        def reached(z: Tensor, *_: Any, **__: Any) -> None:
            found.append(z.float())
            raise _DecodedError

        try:
            with replaced_decode(self.pipeline.vae, reached):
                self._ended(x)
        except _DecodedError:
            return found[0]
        raise PipelineError(f"{type(self.pipeline).__name__} decodes nothing with its vae", "use another generator")

    def _ended(self, x: State, **asked: Any) -> Any:
        """What the pipeline gives whose only step ends at x, a batch of one. Neither its networks nor its encoders of
        text are evaluated, where nobody asks what they say: they repeat what they said."""
        assert self.form is not None, "latents come from a trace, which finds the form"
        parts, said = self.form.apart(x), self._last

        def last(scheduler: Any, *_: Any, **__: Any) -> tuple[Tensor]:
            return (parts[0] if scheduler is self.pipeline.scheduler else parts[1],)

        vae, decode = self.pipeline.vae, self.pipeline.vae.decode

        def fitting(z: Tensor, *args: Any, **kwargs: Any) -> Any:
            """Some pipelines hand over latents as they are, as wide as ours."""
            return decode(z.to(vae.dtype), *args, **kwargs)

        with (
            replaced_step(self.pipeline.scheduler, last),
            replaced_decode(vae, fitting),
            repeated(self.pipeline, self.networks, said),
        ):
            return self.pipeline(**{**self.call, **said.asked, **asked}, num_inference_steps=1, return_dict=False)

    @torch.no_grad()
    def _trace(self, asked: Arguments) -> Told:
        with noted(self.pipeline, self.networks, asked) as said:
            steps = watched(self.pipeline, self.networks, {**self.call, **asked}, 2)
        known = [self.form] if self.form else []  # found again where a prompt says nothing of guidance, such as ""
        form = next((form for form in (*known, *forms(steps, self.call)) if self._explains(form, steps)), None)
        if form is None:
            name = type(self.pipeline).__name__
            raise PipelineError(
                f"{name} cannot be replayed from its calls", "use another pipeline, or an older sampler"
            )
        if form != self.form:
            self._way = None
        self.form, self._last = form, said
        return told_in(steps[0], form)

    def _explains(self, form: Form, steps: list[Step]) -> bool:
        return explains(form, steps, lambda *asked: self._replayed(self.network, *asked))


def _path(scheduler: Any) -> Path:
    """Raises PipelineError for a scheduler whose model predicts neither a velocity nor v."""
    predicts = scheduler.config.get("prediction_type", "flow_prediction")
    if predicts == "v_prediction" and hasattr(scheduler, "alphas_cumprod"):
        return Preserving(scheduler.alphas_cumprod)
    if predicts != "flow_prediction" or not hasattr(scheduler, "sigmas"):
        raise PipelineError(f"{type(scheduler).__name__} predicts {predicts}", "give a pipeline of a flow model")
    return Straight(scheduler.config.num_train_timesteps)
