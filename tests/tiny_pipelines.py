"""Tiny random pipelines of diffusers, whole: text encoders, tokenizers and decoders too, as folders on disk are."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from tiny_encoders import byt5, clip, gemma3, mistral3, qwen3, qwen25_vl, qwen25_vl_text, t5


def euler() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)


def picture_vae(kind: Any = diffusers.AutoencoderKL, channels: int = 4, **more: Any) -> Any:
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return kind(block_out_channels=(4,) * 4, norm_num_groups=2, latent_channels=channels, **kinds, **more)


def wan(two: bool = False, **more: Any) -> Any:
    tokenizer, encoder = t5(transformers.UMT5Config, transformers.UMT5EncoderModel)
    networks = [
        diffusers.WanTransformer3DModel(
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
        for _ in range(1 + two)
    ]
    vae = diffusers.AutoencoderKLWan(
        base_dim=3,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    sampler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
    )
    second = {"transformer_2": networks[1], "boundary_ratio": 0.875} if two else {}
    return diffusers.WanPipeline(tokenizer, encoder, vae, sampler, networks[0], **second, **more)


def ltx() -> Any:
    """Picture and sound."""
    tokenizer, encoder = gemma3(layers=1)
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
    connectors = LTX2TextConnectors(
        caption_channels=16,
        text_proj_in_factor=2,  # the embeddings and the layer
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
    )
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=8,
        block_out_channels=(8,),
        down_block_types=("LTX2VideoDownBlock3D",),
        decoder_block_out_channels=(8,),
        layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatiotemporal",),
        upsample_type=("spatiotemporal",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=16,
    )
    heard = diffusers.AutoencoderKLLTX2Audio(
        base_channels=16, ch_mult=(1, 1, 1), num_res_blocks=1, resolution=8, latent_channels=8, mel_bins=8
    )
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=8,
        upsample_kernel_sizes=[4],
        upsample_factors=[2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 1, 1]],
    )
    return diffusers.LTX2Pipeline(euler(), vae, heard, encoder, tokenizer, connectors, network, vocoder)


def hunyuan(guidance: float = 1.0) -> Any:
    (tokenizer, encoder), (tokenizer_2, encoder_2) = qwen25_vl_text(), byt5(12)
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
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(8,) * 5, layers_per_block=1, scaling_factor=1.0
    )
    guider = ClassifierFreeGuidance(guidance_scale=guidance)
    return diffusers.HunyuanVideo15Pipeline(encoder, tokenizer, network, vae, euler(), encoder_2, tokenizer_2, guider)


def cogvideox() -> Any:
    tokenizer, encoder = t5()
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
        use_rotary_positional_embeddings=True,
    )
    vae = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    sampler = diffusers.CogVideoXDPMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", snr_shift_scale=3.0
    )
    return diffusers.CogVideoXPipeline(tokenizer, encoder, vae, network, sampler)


def sd3() -> Any:
    network = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=24,
        out_channels=4,
        pos_embed_max_size=8,
    )
    parts = [part for told in (clip(), clip(), t5(width=32)) for part in told[::-1]]
    return diffusers.StableDiffusion3Pipeline(network, euler(), picture_vae(shift_factor=0.1), *parts)


def flux() -> Any:
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
    (tokenizer, encoder), (tokenizer_2, encoder_2) = clip(), t5()
    plain = transformers.CLIPTextModel(encoder.config).eval()
    vae = picture_vae(shift_factor=0.1)
    return diffusers.FluxPipeline(euler(), vae, plain, tokenizer, encoder_2, tokenizer_2, network)


def flux2() -> Any:
    """It reads its prompt at layers 10, 20 and 30, side by side."""
    tokenizer, encoder = mistral3(layers=30)
    network = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
    )
    return diffusers.Flux2Pipeline(euler(), picture_vae(diffusers.AutoencoderKLFlux2), encoder, tokenizer, network)


def qwenimage() -> Any:
    tokenizer, encoder = qwen25_vl()
    network = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=3,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return diffusers.QwenImagePipeline(euler(), vae, encoder, tokenizer, network)


def zimage() -> Any:
    tokenizer, encoder = qwen3()
    network = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 32, 32],
    )
    torch.nn.init.normal_(network.x_pad_token, std=0.02)  # these are made as memory has them
    torch.nn.init.normal_(network.cap_pad_token, std=0.02)
    return diffusers.ZImagePipeline(euler(), picture_vae(shift_factor=0.1), encoder, tokenizer, network)


MADE = {
    "wan": wan,
    "ltx": ltx,
    "hunyuan": hunyuan,
    "cogvideox": cogvideox,
    "sd3": sd3,
    "flux": flux,
    "flux2": flux2,
    "qwenimage": qwenimage,
    "zimage": zimage,
}
SIZES = {
    "wan": {"height": 16, "width": 16, "frames": 5},
    "ltx": {"height": 64, "width": 64, "frames": 5},
    "hunyuan": {"height": 32, "width": 32, "frames": 5},
    "cogvideox": {"height": 16, "width": 16, "frames": 5},
    "sd3": {"height": 64, "width": 64},
    "flux": {"height": 64, "width": 64},
    "flux2": {"height": 64, "width": 64},
    "qwenimage": {"height": 64, "width": 64},
    "zimage": {"height": 64, "width": 64},
}


def save(folder: Path, pipeline: Any) -> Path:
    torch.manual_seed(0)
    pipeline.save_pretrained(folder)
    return folder
