"""Trace and replay on tiny random pipelines of diffusers: the velocity is the pipeline's own."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="pip install 'palate[align]'")

import tiny_pipelines  # noqa: E402 (diffusers may be missing)

from alignment.algorithms.awm import Awm, AwmSettings  # noqa: E402
from alignment.algorithms.grpo import Grpo, GrpoSettings  # noqa: E402
from alignment.online import Online  # noqa: E402
from alignment.policy import InBatches, Learner  # noqa: E402
from alignment.rollout import RolloutSettings, WindowSettings  # noqa: E402
from models.families import PLAIN  # noqa: E402
from models.pipelines import TracedPipeline  # noqa: E402
from models.replay import Conditions, PipelineError  # noqa: E402


def scheduler() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)


def words(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


Made = tuple[Any, dict[str, Any], dict[str, Any]]  # pipeline, arguments of every call, a prompt in its own arguments


def wan(guidance: float = 1.0, **config: Any) -> Made:
    pipe = tiny_pipelines.wan(**config)
    pipe.scheduler = scheduler()
    size = {"height": 16, "width": 16, "num_frames": 5, "guidance_scale": guidance}
    return pipe, size, {"prompt_embeds": words(1, 6, 16), "negative_prompt_embeds": words(1, 6, 16, seed=2)}


def wan_of_two_networks() -> Made:
    return wan(two=True)


def wan_with_a_time_for_each_token() -> Made:
    return wan(expand_timesteps=True)


def sd3(guidance: float = 1.0) -> Made:
    asked = {"prompt_embeds": words(1, 6, 32), "pooled_prompt_embeds": words(1, 24, seed=3)}
    against = {"negative_prompt_embeds": words(1, 6, 32, seed=2), "negative_pooled_prompt_embeds": words(1, 24, seed=4)}
    size = {"height": 64, "width": 64, "guidance_scale": guidance}
    return tiny_pipelines.sd3(), size, asked | (against if guidance > 1 else {})


def flux() -> Made:
    asked = {"prompt_embeds": words(1, 6, 16), "pooled_prompt_embeds": words(1, 12, seed=3)}
    return tiny_pipelines.flux(), {"height": 64, "width": 64, "guidance_scale": 3.5}, asked


def flux2() -> Made:
    return tiny_pipelines.flux2(), {"height": 64, "width": 64}, {"prompt_embeds": words(1, 6, 24)}


def qwen_image(guidance: float = 1.0) -> Made:
    asked = {"prompt_embeds": words(1, 6, 16), "prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long)}
    against = {
        "negative_prompt_embeds": words(1, 6, 16, seed=2),
        "negative_prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long),
    }
    size = {"height": 64, "width": 64, "true_cfg_scale": guidance}
    return tiny_pipelines.qwenimage(), size, asked | (against if guidance > 1 else {})


def hunyuan_video15(guidance: float = 1.0) -> Made:
    asked: dict[str, Any] = {}
    for which, seed in (("", 1), ("negative_", 2)):
        asked |= {f"{which}prompt_embeds": words(1, 6, 16, seed=seed), f"{which}prompt_embeds_2": words(1, 4, 12)}
        asked |= {f"{which}prompt_embeds_mask": torch.ones(1, 6), f"{which}prompt_embeds_mask_2": torch.ones(1, 4)}
    return tiny_pipelines.hunyuan(guidance), {"height": 64, "width": 64, "num_frames": 5}, asked


def z_image(guidance: float = 1.0) -> Made:
    asked = {"prompt_embeds": [words(6, 16)], "negative_prompt_embeds": [words(6, 16, seed=2)]}
    return tiny_pipelines.zimage(), {"height": 64, "width": 64, "guidance_scale": guidance}, asked


def ltx2(guidance: float = 1.0) -> Made:
    """Picture and sound in one state."""
    call = {"height": 64, "width": 64, "num_frames": 5, "frame_rate": 24.0, "guidance_scale": guidance}
    call |= {"audio_guidance_scale": guidance, **PLAIN}
    asked: dict[str, Any] = {"prompt_embeds": words(1, 6, 32), "prompt_attention_mask": torch.ones(1, 6)}
    against = {"negative_prompt_embeds": words(1, 6, 32, seed=2), "negative_prompt_attention_mask": torch.ones(1, 6)}
    return tiny_pipelines.ltx(), call, asked | against


FAMILIES: dict[str, Callable[[], Made]] = {
    "wan 2.1": wan,
    "wan 2.1, guided": lambda: wan(guidance=5.0),
    "wan 2.2, two networks": wan_of_two_networks,
    "wan 2.2, a time for each token": wan_with_a_time_for_each_token,
    "sd3": sd3,
    "sd3, guided": lambda: sd3(guidance=4.5),
    "flux": flux,
    "flux 2": flux2,
    "qwen image": qwen_image,
    "qwen image, guided": lambda: qwen_image(guidance=4.0),
    "hunyuan video 1.5": hunyuan_video15,
    "hunyuan video 1.5, guided": lambda: hunyuan_video15(guidance=6.0),
    "ltx 2, picture and sound": ltx2,
    "ltx 2, guided": lambda: ltx2(guidance=3.0),
    "z image": lambda: z_image(guidance=0.0),
    "z image, guided": lambda: z_image(guidance=5.0),
}


Watched = list[tuple[torch.Tensor, float, torch.Tensor]]


def steps_of(pipe: Any, call: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """What the pipeline itself does, watched at its scheduler: sample, time, velocity. Sound is behind the picture."""
    seen: list[list[Any]] = []
    original = type(pipe.scheduler).step

    def step(self: Any, output: torch.Tensor, t: Any, sample: torch.Tensor, **kwargs: Any) -> Any:
        now = [sample.clone(), float(t) / 1000, output.clone()]
        if self is pipe.scheduler:
            seen.append(now)
        else:
            before = seen.pop()
            both = [torch.cat([before[i].flatten(1), now[i].flatten(1)], dim=1) for i in (0, 2)]  # type: ignore[union-attr]
            seen.append([both[0], before[1], both[1]])
        return original(self, output, t, sample, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(pipe.scheduler), "step", step)
        rng = torch.Generator().manual_seed(7)
        pipe(**call, num_inference_steps=count, output_type="latent", generator=rng)
    return [tuple(one) for one in seen]  # type: ignore[misc]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_replayed_velocity_is_the_pipelines_own(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    pipe, call, asked = FAMILIES[family]()
    pipe.set_progress_bar_config(disable=True)
    traced = TracedPipeline(pipe, **call)
    conditions = traced.traced(**asked)
    watched = steps_of(pipe, {**call, **asked}, 5, monkeypatch)
    for sample, t, output in watched:
        with torch.no_grad():
            replayed = traced.velocity(traced.network, sample, torch.tensor([t], dtype=torch.float64), conditions)
        assert output.abs().max() > 0
        torch.testing.assert_close(replayed, output.to(replayed.dtype), rtol=1e-4, atol=1e-5)
    samples, times, outputs = (list(part) for part in zip(*watched))
    with torch.no_grad():  # several samples at once, each at a time of its own
        together = traced.velocity(
            traced.network, torch.cat(samples), torch.tensor(times), conditions[torch.zeros(5, dtype=torch.long)]
        )
    torch.testing.assert_close(together, torch.cat(outputs).to(together.dtype), rtol=1e-3, atol=1e-4)
    blank = traced.traced(**{name: _blank(value) for name, value in asked.items()})
    with torch.no_grad():
        unasked = traced.velocity(traced.network, samples[1], torch.tensor(times[1:2]), blank)
    assert (unasked - outputs[1]).abs().max() > 1e-4  # the prompt is heard


@pytest.mark.parametrize("family", [family for family in FAMILIES if "guided" in family])
def test_nothing_is_learned_through_what_guidance_leads_away_from(family: str) -> None:
    """So it can be known already: the velocity and its gradient are the same, for one call of the network less."""
    torch.manual_seed(0)
    pipe, call, asked = FAMILIES[family]()
    pipe.set_progress_bar_config(disable=True)
    traced = TracedPipeline(pipe, **call)
    conditions = traced.traced(**asked)[torch.zeros(2, dtype=torch.long)]
    x, t = traced.noise(2, torch.Generator().manual_seed(0)), torch.tensor([0.7, 0.4])
    calls: list[Any] = []
    pipe.transformer.register_forward_hook(lambda *told: calls.append(told[2]))
    *_, weight = pipe.transformer.parameters()
    known = traced.unguided(traced.network, x, t, conditions)
    assert known is not None
    assert not known.requires_grad
    assert len(calls) == 1
    velocities = [traced.velocity(traced.network, x, t, conditions, told) for told in (None, known)]
    assert len(calls) == 4
    assert torch.equal(*velocities)
    gradients = [torch.autograd.grad(velocity.square().sum(), weight)[0] for velocity in velocities]
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0
    other = traced.velocity(traced.network, x, t, conditions, known + 1)
    assert (other - velocities[0]).abs().max() > 0.1  # what is told is used


def _blank(value: Any) -> Any:
    return [torch.zeros_like(one) for one in value] if isinstance(value, list) else value * (value.ndim == 2)


def cogvideox(guidance: float = 1.0) -> Made:
    pipe = tiny_pipelines.cogvideox()
    pipe.scheduler = diffusers.CogVideoXDDIMScheduler.from_config(pipe.scheduler.config)
    call = {"height": 64, "width": 64, "num_frames": 5, "guidance_scale": guidance}
    return pipe, call, {"prompt_embeds": words(1, 6, 16), "negative_prompt_embeds": words(1, 6, 16, seed=2)}


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_a_v_predicting_pipeline_is_a_flow_whose_euler_steps_are_its_own(
    guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CogVideoX: its deterministic sampler, state by state, by conversions written anew here."""
    torch.manual_seed(0)
    pipe, call, asked = cogvideox(guidance)
    pipe.set_progress_bar_config(disable=True)
    traced = TracedPipeline(pipe, **call)
    conditions = traced.traced(**asked)
    watched = steps_of(pipe, {**call, **asked}, 5, monkeypatch)
    kept = pipe.scheduler.alphas_cumprod.double()
    x = watched[0][0].double()  # at the first time all is noise, where both kinds of state are one
    times = []
    for y, told, v in watched:
        a, s = kept[round(told * 1000)].sqrt(), (1 - kept[round(told * 1000)]).sqrt()
        times.append(float(s / (a + s)))
        torch.testing.assert_close(x, y.double() / (a + s), rtol=1e-3, atol=1e-4)
        with torch.no_grad():
            velocity = traced.velocity(traced.network, x, torch.tensor([times[-1]]).double(), conditions)
        x0, eps = a * y - s * v, s * y + a * v
        torch.testing.assert_close(velocity, (eps - x0).double(), rtol=1e-3, atol=1e-3)
        after = kept[round(told * 1000) - 200] if round(told * 1000) > 200 else torch.tensor(1.0).double()
        t_after = (1 - after).sqrt() / (after.sqrt() + (1 - after).sqrt())
        x = x + velocity * (t_after - times[-1])
    assert times[0] == 1.0
    rng = torch.Generator().manual_seed(7)
    (end,) = pipe(**call, **asked, num_inference_steps=5, output_type="latent", generator=rng, return_dict=False)
    torch.testing.assert_close(x, end.double(), rtol=1e-3, atol=1e-3)


def test_gradients_reach_the_network_that_is_given() -> None:
    pipe, call, asked = wan()
    pipe.set_progress_bar_config(disable=True)
    traced = TracedPipeline(pipe, **call)
    conditions = traced.traced(**asked)
    x = traced.noise(1, torch.Generator())
    traced.velocity(traced.network, x, torch.tensor([0.5]), conditions).square().mean().backward()
    assert all(p.grad is not None for p in pipe.transformer.blocks.parameters() if p.requires_grad)


@pytest.mark.parametrize("times", [(0.9, 0.8), (0.2, 0.9), (0.1, 0.3)])
def test_of_two_sharded_networks_all_processes_call_those_that_anybody_needs(
    times: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one order, and what is only called for others changes neither what is said nor any gradient."""
    torch.manual_seed(0)
    pipe, call, asked = wan(two=True)
    pipe.register_to_config(boundary_ratio=0.5)
    pipe.set_progress_bar_config(disable=True)
    traced = TracedPipeline(pipe, **call)
    conditions = traced.traced(**asked)[torch.zeros(2, dtype=torch.long)]
    x, t = traced.noise(2, torch.Generator().manual_seed(0)), torch.tensor(times)
    calls: list[int] = []
    for which, network in enumerate(traced.networks):
        network.register_forward_hook(lambda *_, which=which: calls.append(which))
    parameters = list(traced.network.parameters())

    def said() -> tuple[torch.Tensor, list[Any]]:
        velocity = traced.velocity(traced.network, x, t, conditions)
        return velocity, list(torch.autograd.grad(velocity.square().sum(), parameters, allow_unused=True))

    alone, gradients = said()
    assert set(calls) == {int(time < 0.5) for time in times}
    calls.clear()
    monkeypatch.setattr("models.pipelines.DTensor", torch.nn.Parameter)  # as if it were sharded
    monkeypatch.setattr("models.pipelines.gathered", lambda own: torch.stack([own, torch.ones_like(own)]))
    together, others = said()
    assert calls == [0, 1]
    assert torch.equal(alone, together)
    for one, other in zip(gradients, others):
        torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other)


class Asked(TracedPipeline):
    """Two prompts by their embeddings, and nothing is decoded."""

    def conditions(self, prompts: Sequence[str], **also: Any) -> Any:
        width = {"SD3Transformer2DModel": 32, "Flux2Transformer2DModel": 24}.get(type(self.networks[0]).__name__, 16)
        told = [{"prompt_embeds": words(1, 6, width, seed=len(one))} for one in prompts]
        return Conditions.of([self._trace(one) for one in told])

    def clips(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


@pytest.mark.parametrize("made", [wan, wan_of_two_networks, sd3, flux2])
def test_a_pipeline_is_a_policy_that_grpo_and_awm_can_teach(made: Callable[[], Made]) -> None:
    """Five-dimensional and packed latents alike: ratio 1 at the start, and a gradient in every network that drew."""
    torch.manual_seed(0)
    pipe, call, asked = made()
    pipe.set_progress_bar_config(disable=True)
    if made is sd3:
        call |= {"pooled_prompt_embeds": asked["pooled_prompt_embeds"]}
    policy = Asked(pipe, **call)
    policy.conditions(["one"])
    rollouts = RolloutSettings(prompts=2, group=3, steps=4)
    window = WindowSettings(width=2, first=0, last=1)
    for algorithm in (Grpo(GrpoSettings(clip=1e-4, kl=0.1, window=window)), Awm(AwmSettings())):
        learner = Learner(policy.network, algorithm.reference, algorithm.behaviour)
        brightness = lambda prompts, clips: clips.reshape(len(clips), -1).mean(axis=1) * 100  # noqa: E731
        objective = Online(algorithm, policy, learner, lambda n, seed: ["one", "three"], brightness, rollouts, 1, 0)
        loss, watched = objective(0)
        loss.backward()
        assert watched["clipfrac"] == 0
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in pipe.transformer.parameters())


def test_latents_are_decoded_as_the_pipeline_decodes_its_own() -> None:
    torch.manual_seed(0)
    pipe, call, asked = sd3()
    pipe.set_progress_bar_config(disable=True)
    traced = TracedPipeline(pipe, **call)
    traced.traced(**asked)
    rng = torch.Generator().manual_seed(7)
    told = {**call, **asked, "num_inference_steps": 3, "return_dict": False}
    (latents,) = pipe(**told, output_type="latent", generator=rng)
    (own,) = pipe(**told, output_type="np", generator=rng.manual_seed(7))
    decoded = traced.clips(torch.cat([latents, 0 * latents]))
    assert decoded.shape == (2, 1, 64, 64, 3)
    torch.testing.assert_close(decoded[0, 0].double(), torch.from_numpy(own[0]).double() * 255, atol=0.51, rtol=0)
    assert not torch.equal(decoded[0], decoded[1])


def test_prompts_of_different_length_may_be_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one length are evaluated at once; a sharded network refuses, since another process has other prompts."""
    pipe, call, _ = wan()
    pipe.set_progress_bar_config(disable=True)
    traced = TracedPipeline(pipe, **call)
    both = Conditions.of([traced._trace({"prompt_embeds": words(1, length, 16)}) for length in (4, 6)])
    rows = both[torch.tensor([0, 1, 0])]
    calls: list[int] = []
    x, t = traced.noise(3, torch.Generator()), torch.tensor([0.5, 0.6, 0.7])
    pipe.transformer.register_forward_hook(lambda *told: calls.append(len(told[2][0])))
    with torch.no_grad():
        together = traced.velocity(traced.network, x, t, rows)
        assert calls == [2, 1]
        apart = InBatches(traced, 1).velocity(traced.network, x, t, rows)
    torch.testing.assert_close(together, apart)
    monkeypatch.setattr("models.pipelines.DTensor", torch.nn.Parameter)
    traced.velocity(traced.network, x[:1], t[:1], rows[torch.tensor([0])])
    with pytest.raises(PipelineError, match="different length in one batch of a sharded network"):
        traced.velocity(traced.network, x, t, rows)


def test_what_is_no_flow_or_does_not_replay_is_refused() -> None:
    pipe, call, asked = wan()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = diffusers.DDIMScheduler(prediction_type="epsilon")
    with pytest.raises(PipelineError, match="predicts epsilon"):
        TracedPipeline(pipe, **call)
    pipe.scheduler = scheduler()
    forward = pipe.transformer.forward
    calls: list[int] = []

    def forgets(*args: Any, **kwargs: Any) -> Any:
        calls.append(0)
        return (forward(*args, **kwargs)[0] * len(calls),)

    pipe.transformer.forward = forgets
    with pytest.raises(PipelineError, match="cannot be replayed"):
        TracedPipeline(pipe, **call).traced(**asked)
