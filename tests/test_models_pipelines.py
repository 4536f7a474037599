"""Trace and replay on tiny random pipelines of diffusers: the velocity is the pipeline's own."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="pip install 'palate[align]'")

from alignment.algorithms.awm import Awm, AwmSettings  # noqa: E402 (diffusers may be missing)
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


def wan_transformer() -> Any:
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )


def wan(guidance: float = 1.0, **config: Any) -> Made:
    pipe = diffusers.WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler(), transformer=wan_transformer(), **config
    )
    size = {"height": 16, "width": 16, "num_frames": 5, "guidance_scale": guidance}
    return pipe, size, {"prompt_embeds": words(1, 6, 16), "negative_prompt_embeds": words(1, 6, 16, seed=2)}


def wan_of_two_networks() -> Made:
    return wan(transformer_2=wan_transformer(), boundary_ratio=0.875)


def wan_with_a_time_for_each_token() -> Made:
    return wan(expand_timesteps=True)


def sd3(guidance: float = 1.0) -> Made:
    network = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=12,
        out_channels=4,
        pos_embed_max_size=8,
    )
    nothing = dict.fromkeys(["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3"])
    pipe = diffusers.StableDiffusion3Pipeline(network, scheduler(), vae=None, tokenizer_3=None, **nothing)
    asked = {"prompt_embeds": words(1, 6, 16), "pooled_prompt_embeds": words(1, 12, seed=3)}
    against = {"negative_prompt_embeds": words(1, 6, 16, seed=2), "negative_pooled_prompt_embeds": words(1, 12, seed=4)}
    return pipe, {"height": 64, "width": 64, "guidance_scale": guidance}, asked | (against if guidance > 1 else {})


def flux() -> Made:
    network = diffusers.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=12,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    pipe = diffusers.FluxPipeline(scheduler(), None, None, None, None, None, network)
    asked = {"prompt_embeds": words(1, 6, 16), "pooled_prompt_embeds": words(1, 12, seed=3)}
    return pipe, {"height": 64, "width": 64, "guidance_scale": 3.5}, asked


def flux2() -> Made:
    network = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
    )
    pipe = diffusers.Flux2Pipeline(scheduler(), None, None, None, network)
    return pipe, {"height": 64, "width": 64}, {"prompt_embeds": words(1, 6, 16)}


def qwen_image(guidance: float = 1.0) -> Made:
    network = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    pipe = diffusers.QwenImagePipeline(scheduler(), None, None, None, network)
    asked = {"prompt_embeds": words(1, 6, 16), "prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long)}
    against = {
        "negative_prompt_embeds": words(1, 6, 16, seed=2),
        "negative_prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long),
    }
    size = {"height": 64, "width": 64, "true_cfg_scale": guidance}
    return pipe, size, asked | (against if guidance > 1 else {})


def hunyuan_video15(guidance: float = 1.0) -> Made:
    network = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=12,
        image_embed_dim=8,
        rope_axes_dim=(4, 6, 6),
        target_size=16,
        task_type="t2v",
    )
    guider = diffusers.ClassifierFreeGuidance(guidance_scale=guidance)
    vae = torch.nn.Module()
    vae.config = SimpleNamespace(latent_channels=4)  # type: ignore[assignment]
    vae.device, vae.dtype = torch.device("cpu"), torch.float32  # type: ignore[assignment]
    vae.temporal_compression_ratio, vae.spatial_compression_ratio = 4, 16  # type: ignore[assignment]
    pipe = diffusers.HunyuanVideo15Pipeline(None, None, network, vae, scheduler(), None, None, guider)
    asked: dict[str, Any] = {}
    for which, seed in (("", 1), ("negative_", 2)):
        asked |= {f"{which}prompt_embeds": words(1, 6, 16, seed=seed), f"{which}prompt_embeds_2": words(1, 4, 12)}
        asked |= {f"{which}prompt_embeds_mask": torch.ones(1, 6), f"{which}prompt_embeds_mask_2": torch.ones(1, 4)}
    return pipe, {"height": 64, "width": 64, "num_frames": 5}, asked


def z_image(guidance: float = 1.0) -> Made:
    network = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[64, 32, 32],
    )
    torch.nn.init.normal_(network.x_pad_token, std=0.02)
    torch.nn.init.normal_(network.cap_pad_token, std=0.02)
    pipe = diffusers.ZImagePipeline(scheduler(), None, None, None, network)
    asked = {"prompt_embeds": [words(6, 16)], "negative_prompt_embeds": [words(6, 16, seed=2)]}
    return pipe, {"height": 64, "width": 64, "guidance_scale": guidance}, asked


def ltx2(guidance: float = 1.0) -> Made:
    """Picture and sound in one state; it decodes nothing here, so the parts that would are left out."""
    network = diffusers.LTX2VideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=16,
        audio_out_channels=16,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        caption_channels=16,
    )
    connectors = diffusers.pipelines.ltx2.LTX2TextConnectors(
        caption_channels=16,
        text_proj_in_factor=1,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
    )

    def decoder(**config: Any) -> Any:
        module = torch.nn.Module()
        module.config = SimpleNamespace(latents_mean=0.0, **config)  # type: ignore[assignment]
        module.latents_mean, module.latents_std = torch.zeros(16), torch.ones(16)
        module.device, module.dtype = torch.device("cpu"), torch.float32  # type: ignore[assignment]
        return module

    vae = decoder(scaling_factor=1.0)
    vae.latents_mean, vae.latents_std = torch.zeros(8), torch.ones(8)
    vae.spatial_compression_ratio, vae.temporal_compression_ratio = 32, 8  # type: ignore[assignment]
    audio = decoder(mel_bins=8, latent_channels=8, sample_rate=16000, mel_hop_length=160)
    audio.mel_compression_ratio, audio.temporal_compression_ratio = 4, 4  # type: ignore[assignment]
    pipe = diffusers.LTX2Pipeline(scheduler(), vae, audio, None, None, connectors, network, None)  # type: ignore[arg-type]
    call = {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 24.0, "guidance_scale": guidance}
    call |= {"audio_guidance_scale": guidance, **PLAIN}
    asked: dict[str, Any] = {"prompt_embeds": words(1, 6, 16), "prompt_attention_mask": torch.ones(1, 6)}
    against = {"negative_prompt_embeds": words(1, 6, 16, seed=2), "negative_prompt_attention_mask": torch.ones(1, 6)}
    return pipe, call, asked | against


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
    network = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=5,
        max_text_seq_length=6,
        use_rotary_positional_embeddings=True,
    )
    sampler = diffusers.CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=3.0,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )
    pipe = diffusers.CogVideoXPipeline(None, None, None, network, sampler)  # type: ignore[arg-type]
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


class Asked(TracedPipeline):
    """Two prompts by their embeddings, since tiny pipelines have no text encoder; and no decoder either."""

    def conditions(self, prompts: Sequence[str], **also: Any) -> Any:
        return Conditions.of([self._trace({"prompt_embeds": words(1, 6, 16, seed=len(one))}) for one in prompts])

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
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    pipe.vae = diffusers.AutoencoderKL(block_out_channels=(4,) * 4, norm_num_groups=2, shift_factor=0.1, **blocks)
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


def test_prompts_of_different_length_are_evaluated_one_by_one_and_refused_in_one_batch() -> None:
    pipe, call, _ = wan()
    pipe.set_progress_bar_config(disable=True)
    traced = TracedPipeline(pipe, **call)
    both = Conditions.of([traced._trace({"prompt_embeds": words(1, length, 16)}) for length in (4, 6)])
    x, t = traced.noise(2, torch.Generator()), torch.full((2,), 0.5)
    with pytest.raises(PipelineError, match="encoder_hidden_states is longer for some prompts"):
        traced.velocity(traced.network, x, t, both)
    with torch.no_grad():
        apart = InBatches(traced, 1).velocity(traced.network, x, t, both)
        second = traced.velocity(traced.network, x[1:], t[1:], both[torch.tensor([1])])
    assert torch.equal(apart[1:], second)


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
