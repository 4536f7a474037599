"""Clips become latents: a pipeline's decoding turned round, on tiny random pipelines of each family.

The oracle is what diffusers itself does with a given picture or video in its pipelines that take one, with statistics
(scales, shifts, means and deviations of channels) that are far from doing nothing.
"""

from typing import Any

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="pip install 'palate[align]'")

import tiny_pipelines  # noqa: E402 (diffusers may be missing)

from models.encoding import Way, fitted  # noqa: E402
from models.families import PipelineSettings  # noqa: E402
from models.pipelines import TracedPipeline  # noqa: E402
from models.replay import PipelineError  # noqa: E402
from palate.errors import DataError  # noqa: E402
from palate.media import Video  # noqa: E402

FAMILIES = [family for family in tiny_pipelines.MADE if family != "ltx"]
MEANS, SPREADS = [0.3, -0.7, 0.1, 1.5], [1.7, 0.6, 2.5, 0.9]


def made(family: str) -> tuple[Any, TracedPipeline]:
    torch.manual_seed(0)
    pipeline = tiny_pipelines.MADE[family]()
    pipeline.set_progress_bar_config(disable=True)
    if family in ("wan", "qwenimage"):
        pipeline.vae.register_to_config(latents_mean=MEANS, latents_std=SPREADS)
    elif family == "flux2":
        torch.nn.init.normal_(pipeline.vae.bn.running_mean)
        torch.nn.init.uniform_(pipeline.vae.bn.running_var, 0.2, 3.0)
    else:
        pipeline.vae.register_to_config(scaling_factor=0.4)
    if family == "cogvideox":
        pipeline.scheduler = diffusers.CogVideoXDDIMScheduler.from_config(pipeline.scheduler.config)
    traced = TracedPipeline(pipeline, **settings(family).call())
    traced.conditions(["a red circle"])
    return pipeline, traced


def settings(family: str) -> PipelineSettings:
    return PipelineSettings.model_validate({"family": family, **tiny_pipelines.SIZES[family]})


def picture(traced: TracedPipeline) -> torch.Tensor:
    """Noise from 0 to 255 of the pipeline's size."""
    assert traced.form is not None
    shape = traced.clips(torch.zeros(1, *traced.form.streams[0].sample)).shape[1:]
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(1)).float()


def theirs(family: str, pipeline: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The latents of a clip as diffusers' own code has them: of pipelines that are given one, at no noise."""
    video = (pixels / 127.5 - 1).permute(3, 0, 1, 2)[None]
    still, vae = video[:, :, 0], pipeline.vae
    untimed = torch.zeros(1)

    class NoNoise:
        """The scheduler of these pipelines, where no noise is asked for."""

        init_noise_sigma = 1.0

        def add_noise(self, latents: torch.Tensor, *_: Any) -> torch.Tensor:
            return latents

        def scale_noise(self, latents: torch.Tensor, *_: Any) -> torch.Tensor:
            return latents

    def of(kind: Any, **more: Any) -> Any:
        """A pipeline of which no more than this is used."""
        bare = object.__new__(kind)
        names = (
            "vae_scale_factor",
            "vae_scale_factor_temporal",
            "vae_scale_factor_spatial",
            "vae_scaling_factor_image",
        )
        told = {name: getattr(pipeline, name) for name in names if hasattr(pipeline, name)}
        for name, value in {"vae": vae, "scheduler": NoNoise(), "latent_channels": 4, **told, **more}.items():
            object.__setattr__(bare, name, value)
        return bare

    class Mean:
        """The mean of what an encoder says, which these pipelines draw from."""

        def __init__(self, encode: Any) -> None:
            self.encode = encode

        def __call__(self, seen: torch.Tensor) -> Any:
            said = self.encode(seen)
            said.latent_dist.sample = lambda *_: said.latent_dist.mode()
            return said

    vae.encode = Mean(vae.encode)
    height, width = pixels.shape[1:3]
    told: dict[str, Any] = {"dtype": torch.float32, "device": "cpu", "generator": torch.Generator().manual_seed(0)}
    try:
        if family == "wan":
            return of(diffusers.WanVideoToVideoPipeline).prepare_latents(
                video, 1, 4, height, width, **told, timestep=untimed
            )
        if family == "cogvideox":
            return of(diffusers.CogVideoXVideoToVideoPipeline).prepare_latents(
                video, 1, 4, height, width, **told, timestep=untimed
            )
        if family == "hunyuan":
            kind, processor = diffusers.HunyuanVideo15ImageToVideoPipeline, pipeline.video_processor
            return kind._get_image_latents(vae, processor, still / 2 + 0.5, height, width, "cpu")
        if family == "sd3":
            return of(diffusers.StableDiffusion3Img2ImgPipeline).prepare_latents(still, untimed, 1, 1, **told)
        if family == "flux":
            return of(diffusers.FluxImg2ImgPipeline).prepare_latents(still, untimed, 1, 4, height, width, **told)[0]
        if family == "flux2":
            return pipeline.prepare_image_latents([still], 1, told["generator"], "cpu", torch.float32)[0]
        if family == "qwenimage":
            return of(diffusers.QwenImageImg2ImgPipeline).prepare_latents(
                video[:, :, :1], untimed, 1, 4, height, width, **told
            )[0]
        assert family == "zimage"
        return of(diffusers.ZImageImg2ImgPipeline).prepare_latents(
            still, untimed, 1, 4, height, width, torch.float32, "cpu", told["generator"]
        )
    finally:
        vae.encode = vae.encode.encode


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_is_encoded_as_diffusers_own_pipelines_encode_what_they_are_given(family: str) -> None:
    """And decoding puts no scale of its own between the two halves of the autoencoder."""
    pipeline, traced = made(family)
    pixels = picture(traced)
    encode, said = pipeline.vae.encode, list[torch.Tensor]()

    def noting(seen: torch.Tensor) -> Any:
        found = encode(seen)
        said.append(found.latent_dist.mode())
        return found

    pipeline.vae.encode = noting
    with torch.no_grad():
        ours, own = traced.latents(pixels), theirs(family, pipeline, pixels)
    torch.testing.assert_close(traced._decoded(ours), said[0], rtol=1e-4, atol=1e-5)
    assert ours.shape == (1, *traced.form.streams[0].sample)  # type: ignore[union-attr]
    assert ours.std() > 0.01
    if family == "hunyuan":
        pixels = pixels[:1].expand_as(pixels)  # its own pipeline is given the first frame alone
        torch.testing.assert_close(traced.latents(pixels)[:, :, :1], own.view_as(ours[:, :, :1]), rtol=1e-4, atol=1e-4)
    else:
        torch.testing.assert_close(ours, own.view_as(ours), rtol=1e-4, atol=1e-4)


def test_sound_is_refused_with_the_reason() -> None:
    torch.manual_seed(0)
    pipeline = tiny_pipelines.ltx()
    pipeline.set_progress_bar_config(disable=True)
    traced = TracedPipeline(pipeline, **settings("ltx").call())
    traced.conditions(["a red circle"])
    with pytest.raises(PipelineError, match="draws sound, which the videos of a record do not have"):
        traced.latents(torch.zeros(5, 64, 64, 3))


def test_half_precision_changes_nothing_of_what_is_encoded() -> None:
    _, exact = made("wan")
    pixels = picture(exact)
    pipeline, traced = made("wan")
    pipeline.to(torch.bfloat16)
    traced.conditions(["a red circle"])
    pipeline.vae.load_state_dict(exact.pipeline.vae.state_dict())
    exact.pipeline.vae.load_state_dict(pipeline.vae.state_dict())  # the same rounded weights
    torch.testing.assert_close(traced.latents(pixels), exact.latents(pixels))
    assert pipeline.vae.dtype == torch.bfloat16


def test_a_way_that_loses_or_mixes_values_is_refused() -> None:
    like = torch.zeros(1, 3, 4)
    place = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    way = Way.of(lambda x: x.flatten()[place].view(1, 4, 3) * 0.01 - 7, like)
    x = torch.randn(1, 3, 4)
    torch.testing.assert_close(way.back(x.flatten()[place] * 0.01 - 7), x.flatten(), rtol=1e-3, atol=1e-3)
    with pytest.raises(PipelineError, match="12 values 8 are decoded"):
        Way.of(lambda x: x[:, 1:], like)
    with pytest.raises(PipelineError, match="value by value"):
        Way.of(lambda x: x + (x.abs().max() < 100) * x**2, like)


def test_a_clip_is_brought_to_the_settings_by_the_stated_rule() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 6, 10, 3), dtype=np.uint8)
    same = fitted(Video(frames, 8.0, 1.0), 5, 6, 10, 8.0)
    assert torch.equal(same, torch.from_numpy(frames[:5]).float())
    doubled = fitted(Video(frames, 8.0, 1.0), 4, 6, 10, 16.0)  # time keeps its pace
    assert torch.equal(doubled, torch.from_numpy(frames[[0, 0, 1, 1]]).float()) or torch.equal(
        doubled, torch.from_numpy(frames[[0, 1, 1, 2]]).float()
    )
    middle = np.zeros((1, 8, 24, 3), np.uint8)
    middle[:, :, 8:16] = 200
    cut = fitted(Video(middle, 1.0, 1.0), 1, 4, 4, 0.0)  # halved, and the middle third kept
    assert cut.shape == (1, 4, 4, 3)
    assert (cut[:, :, 1:3] - 200).abs().max() < 12
    with pytest.raises(DataError, match=r"a clip of 1\.00 s, where 20 frames at 16 a second"):
        fitted(Video(frames, 8.0, 1.0), 20, 6, 10, 16.0)
    with pytest.raises(DataError, match="a clip of 8 frames"):
        fitted(Video(frames, 8.0, 1.0), 1, 6, 10, 0.0)


def test_a_prompt_is_encoded_once_however_many_clips_are_decoded() -> None:
    pipeline, traced = made("sd3")
    calls: list[int] = []
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        getattr(pipeline, name).register_forward_hook(lambda *_: calls.append(0))
    traced.clips(traced.noise(3, torch.Generator()))
    assert not calls
    assert "encode_prompt" not in pipeline.__dict__
