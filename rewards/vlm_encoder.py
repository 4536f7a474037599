"""Scores of real videos by a vision-language model of transformers: Qwen2-VL, Qwen2.5-VL or Qwen3-VL.

The language model learns through LoRA and the axes' tokens through rows of their own (peft), so a checkpoint holds
these and the heads, and names the base that they belong to.
"""

import hashlib
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModel

from palate.errors import CheckpointError
from palate.records import Axis
from rewards.encoder import AxisScores, Encoder
from rewards.reward import Answer
from rewards.vlm_question import VlmSettings, filled, template_of, token
from rewards.vlm_video import Asked, opened

LAYERS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"


class VlmEncoder(Encoder):
    """Raises CheckpointError where there is no such base, and ConfigError for a template that does not fit."""

    kind = "vlm"

    def __init__(self, settings: VlmSettings, axes: tuple[Axis, ...]) -> None:
        super().__init__()
        self.axes, self.settings, self.template = axes, settings, template_of(settings, axes)
        model, self.eye = opened(AutoModel, settings.base, settings.fps, settings.frame_pixels)
        self.base_hash = _hash(model)
        words = self.eye.tokenizer
        words.add_tokens([token(axis) for axis in axes], special_tokens=True)
        self.axis_ids: list[int] = words.convert_tokens_to_ids([token(axis) for axis in axes])
        if len(words) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(words))
        lora = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=LAYERS,
            trainable_token_indices={"embed_tokens": self.axis_ids},
        )
        self.model: Any = get_peft_model(model, lora)
        model.visual.requires_grad_(settings.vision)
        self.heads = nn.Parameter(0.02 * torch.randn(len(axes), model.config.text_config.hidden_size))
        # What is frozen is the base's, and no part of this network's state.
        self.register_state_dict_post_hook(_drop_frozen)
        self.register_load_state_dict_post_hook(_miss_no_frozen)

    def prepare(self, answer: Answer) -> Asked:
        """Frames at the settings' rate. Raises DataError for a prompt with a control token of the model in it."""
        prompt = self.eye.checked(answer.prompt)
        clip = self.eye.clip(answer.frames, answer.fps)
        values = {"video": clip.text, "prompt": prompt} | {axis: token(axis) for axis in self.axes}
        return self.eye.asked(filled(self.template, values), clip)

    def forward(self, prepared: list[Asked]) -> AxisScores:
        told = self.eye.inputs(prepared, self.heads.device)
        if self.settings.positions == "order":
            told["position_ids"] = torch.arange(told["input_ids"].shape[1], device=self.heads.device).expand(
                3, len(prepared), -1
            )
        hidden = self.model(**told, use_cache=False).last_hidden_state
        where = told["input_ids"][:, None] == torch.tensor(self.axis_ids, device=hidden.device)[:, None]
        place = where.int().argmax(dim=-1)  # each token stands there once
        read = hidden[torch.arange(len(prepared), device=hidden.device)[:, None], place]
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
