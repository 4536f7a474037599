"""Scores of real videos by a vision-language model of transformers: Qwen2-VL, Qwen2.5-VL or Qwen3-VL.

The language model learns through LoRA and the axes' tokens through rows of their own (peft), so a checkpoint holds
these and the heads, and names the base that they belong to. A video goes in as a video on every machine: the library
makes patches of its frames as images, which needs no torchvision, and frames that share a patch are joined here. So a
score does not depend on what is installed.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from palate.errors import CheckpointError, DataError
from palate.media import pick_frames
from palate.records import Axis
from rewards.encoder import AxisScores, Encoder
from rewards.reward import Answer
from rewards.vlm_question import VlmSettings, filled, template_of, token

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
LAYERS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"
VIDEO = 2  # transformers' number for tokens of a video


@dataclass(frozen=True)
class Watched:
    """A question as tokens, and the patches of its video. grid: (time, height, width) in patches."""

    ids: list[int]
    patches: Float[Tensor, "patches values"]
    grid: tuple[int, int, int]


class VlmEncoder(Encoder):
    """Raises CheckpointError where there is no such base, and ConfigError for a template that does not fit."""

    kind = "vlm"

    def __init__(self, settings: VlmSettings, axes: tuple[Axis, ...]) -> None:
        super().__init__()
        self.axes, self.settings, self.template = axes, settings, template_of(settings, axes)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(settings.base)
            self.images: Any = AutoImageProcessor.from_pretrained(settings.base)
            model: Any = AutoModel.from_pretrained(settings.base, dtype="auto")
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{settings.base} is no vision-language model ({said})", "give one's folder"
            ) from error
        self.config = model.config
        if self.config.model_type not in FAMILIES:
            raise CheckpointError(f"{settings.base} is a {self.config.model_type}", f"give a {', '.join(FAMILIES)}")
        self.base_hash = _hash(model)
        self.tokenizer.add_tokens([token(axis) for axis in axes], special_tokens=True)
        self.axis_ids: list[int] = self.tokenizer.convert_tokens_to_ids([token(axis) for axis in axes])
        if len(self.tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(self.tokenizer))
        lora = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=LAYERS,
            trainable_token_indices={"embed_tokens": self.axis_ids},
        )
        self.model: Any = get_peft_model(model, lora)
        model.visual.requires_grad_(settings.vision)
        self.heads = nn.Parameter(0.02 * torch.randn(len(axes), self.config.text_config.hidden_size))
        # What is frozen is the base's, and no part of this network's state.
        self.register_state_dict_post_hook(_drop_frozen)
        self.register_load_state_dict_post_hook(_miss_no_frozen)

    def prepare(self, answer: Answer) -> Watched:
        """Frames at the settings' rate. Raises DataError for a prompt with a control token of the model in it."""
        if spoken := [one for one in self.tokenizer.get_added_vocab() if one in answer.prompt]:
            raise DataError(f"the prompt holds {spoken[0]}", "take it out: the model reads that as a command")
        times = np.arange(len(answer.frames)) / answer.fps
        chosen = pick_frames(times, self.settings.fps)
        joined = self.images.temporal_patch_size
        chosen = np.concatenate([chosen, chosen[-1:].repeat(-len(chosen) % joined)])
        most = {"shortest_edge": min(28 * 28, self.settings.frame_pixels), "longest_edge": self.settings.frame_pixels}
        seen = self.images(images=list(answer.frames[chosen]), size=most, return_tensors="pt")
        _, height, width = seen["image_grid_thw"][0].tolist()
        grid = (len(chosen) // joined, height, width)
        # An image is a patch's frame repeated: of each frame that shares a patch its own turn is kept.
        patches = seen["pixel_values"].unflatten(0, (grid[0], joined, -1)).unflatten(-1, (3, joined, -1))
        patches = patches.diagonal(dim1=1, dim2=4).movedim(-1, 3).flatten(2).flatten(0, 1)
        moments = times[chosen].reshape(-1, joined)[:, [0, -1]].mean(axis=1)
        values = {"video": self._video(grid, moments.tolist()), "prompt": answer.prompt}
        text = filled(self.template, values | {axis: token(axis) for axis in self.axes})
        return Watched(self.tokenizer(text, add_special_tokens=False)["input_ids"], patches, grid)

    def _video(self, grid: tuple[int, int, int], moments: list[float]) -> str:
        """Where the video stands in the text; Qwen3-VL is told each moment in words."""
        named = ("vision_start_token_id", "video_token_id", "vision_end_token_id")
        start, video, end = self.tokenizer.convert_ids_to_tokens([getattr(self.config, name) for name in named])
        length = grid[1] * grid[2] // self.images.merge_size**2
        if self.config.model_type == "qwen3_vl":
            return "".join(f"<{moment:.1f} seconds>{start}{video * length}{end}" for moment in moments)
        return f"{start}{video * (grid[0] * length)}{end}"

    def forward(self, prepared: list[Watched]) -> AxisScores:
        device = self.heads.device
        ids = pad_sequence([torch.tensor(one.ids) for one in prepared], batch_first=True).to(device)
        lengths = torch.tensor([len(one.ids) for one in prepared], device=device)
        told: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": (torch.arange(ids.shape[1], device=device) < lengths[:, None]).long(),
            "mm_token_type_ids": VIDEO * (ids == self.config.video_token_id).int(),
            "pixel_values_videos": torch.cat([one.patches for one in prepared]).to(device),
            "video_grid_thw": torch.tensor([one.grid for one in prepared], device=device),
        }
        if self.config.model_type == "qwen2_5_vl":  # positions are in seconds
            told["second_per_grid_ts"] = torch.full(
                (len(prepared),), self.images.temporal_patch_size / self.settings.fps
            )
        hidden = self.model(**told, use_cache=False).last_hidden_state
        where = ids[:, None] == torch.tensor(self.axis_ids, device=device)[:, None]
        place = where.int().argmax(dim=-1)  # each token stands there once
        read = hidden[torch.arange(len(prepared), device=device)[:, None], place]
        return (read.to(self.heads.dtype) * self.heads).sum(dim=-1)

    def card(self) -> dict[str, Any]:
        return {"kind": self.kind, "settings": self.settings.model_dump(mode="json"), "base_hash": self.base_hash}

    def tensors(self) -> dict[str, Tensor]:
        return self.state_dict()

    @classmethod
    def from_card(cls, card: dict[str, Any], axes: tuple[Axis, ...], tensors: dict[str, Tensor]) -> "VlmEncoder":
        """Raises CheckpointError where the base is not the one that it was trained on."""
        settings = VlmSettings.model_validate(card["settings"])
        encoder = cls(settings, axes)
        if encoder.base_hash != card["base_hash"]:
            raise CheckpointError(f"{settings.base} is not the base that this reward was trained on", "give that one")
        encoder.load_state_dict(tensors)
        return encoder


def _hash(model: nn.Module) -> str:
    """Of the names and sizes of all weights, and the first few of each: enough to tell one base from another."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.flatten()[:16].double().numpy().tobytes())
    return digest.hexdigest()


def _drop_frozen(encoder: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    for name in _frozen(encoder):
        state.pop(prefix + name, None)


def _miss_no_frozen(encoder: nn.Module, keys: Any) -> None:
    frozen = _frozen(encoder)
    keys.missing_keys[:] = [name for name in keys.missing_keys if not any(name.endswith(one) for one in frozen)]


def _frozen(encoder: nn.Module) -> set[str]:
    kept = {name for name, value in encoder.named_parameters() if value.requires_grad}
    every = {name for name, _ in encoder.named_parameters(remove_duplicate=False)}
    return (every | {name for name, _ in encoder.named_buffers(remove_duplicate=False)}) - kept
