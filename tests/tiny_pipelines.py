"""Tiny random pipelines of diffusers on disk, text encoders and tokenizers too, as `from_pretrained` reads them."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

VOCABULARY = [
    "<pad>",
    "</s>",
    "<unk>",
    *(f"▁{word}" for word in ["a", "red", "blue", "circle", "square", "moves", "stays", "left", "up"]),
]


def t5(
    config: Any = transformers.T5Config, model: Any = transformers.T5EncoderModel, width: int = 16
) -> tuple[Any, Any]:
    told = {"num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16, "d_model": width}
    tokenizer = transformers.T5Tokenizer(vocab=[(word, -float(i)) for i, word in enumerate(VOCABULARY)], extra_ids=0)
    return tokenizer, model(config(vocab_size=len(VOCABULARY) + 4, **told)).eval()


def clip() -> tuple[Any, Any]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = transformers.CLIPTokenizer({word: i for i, word in enumerate(words)}, [], model_max_length=8)
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=12,
        intermediate_size=16,
        projection_dim=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    return tokenizer, transformers.CLIPTextModelWithProjection(config).eval()


def picture_vae(channels: int = 4) -> Any:
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return diffusers.AutoencoderKL(
        block_out_channels=(4,) * 4, norm_num_groups=2, shift_factor=0.1, latent_channels=channels, **kinds
    )


def wan(two: bool = False) -> Any:
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
    more = {"transformer_2": networks[1], "boundary_ratio": 0.875} if two else {}
    return diffusers.WanPipeline(tokenizer, encoder, vae, sampler, networks[0], **more)


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
    (tokenizer, encoder), (tokenizer_2, encoder_2), (tokenizer_3, encoder_3) = clip(), clip(), t5(width=32)
    sampler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return diffusers.StableDiffusion3Pipeline(
        network, sampler, picture_vae(), encoder, tokenizer, encoder_2, tokenizer_2, encoder_3, tokenizer_3
    )


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
        sample_width=2,
        sample_height=2,
        sample_frames=5,
        max_text_seq_length=226,
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
    sampler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return diffusers.FluxPipeline(sampler, picture_vae(), plain, tokenizer, encoder_2, tokenizer_2, network)


MADE = {"wan": wan, "sd3": sd3, "flux": flux, "cogvideox": cogvideox}


def save(folder: Path, pipeline: Any) -> Path:
    torch.manual_seed(0)
    pipeline.save_pretrained(folder)
    return folder
