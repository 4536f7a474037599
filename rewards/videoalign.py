"""The published VideoReward checkpoint (KwaiVGI/VideoReward) as a reward of ours.

Its folder holds model_config.json and the whole state of a Qwen2-VL under peft, named as transformers had it then. The
adapters, the three tokens' rows, the vision tower and the head are taken; what it did not train is the base's.
The text that it was asked with is not part of the checkpoint: give it as the settings' template.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from palate.errors import CheckpointError
from rewards.pairs import VIDEOALIGN_AXES
from rewards.video_reward import Calibration, VideoReward
from rewards.vlm_encoder import VlmEncoder
from rewards.vlm_question import VlmSettings

AXES = tuple(VIDEOALIGN_AXES[name] for name in ("VQ", "MQ", "TA"))
ROWS = "language_model.embed_tokens.token_adapter.trainable_tokens_delta.default"


def load_published(folder: Path, settings: VlmSettings) -> VideoReward:
    """Rate, frame size and LoRA are the checkpoint's; base and template the settings'.

    Its trainer gave the language model no positions, so tokens count one by one, those of a video too.

    Raises CheckpointError for a folder without the published files, or a state that does not fit the base.
    """
    try:
        told = json.loads((folder / "model_config.json").read_text())
        state = torch.load(_state_file(folder), weights_only=True, map_location="cpu")
        data, lora, scale = told["data_config"], told["peft_lora_config"], told["inference_config"]
        published = {
            "fps": float(data["fps"]),
            "frame_pixels": int(data["max_frame_pixels"]),
            "rank": int(lora["lora_r"]),
            "alpha": int(lora["lora_alpha"]),
            "vision": True,
            "positions": "order",
        }
        calibration = {
            axis: Calibration(float(scale[f"{name}_mean"]), float(scale[f"{name}_std"]))
            for axis, name in zip(AXES, ("VQ", "MQ", "TA"))
        }
    except (OSError, KeyError, TypeError, ValueError, UnpicklingError) as error:
        raise CheckpointError(f"{folder} is no VideoReward ({error})", "give the folder as published") from error
    encoder = VlmEncoder(VlmSettings(**{**settings.model_dump(), **published}), AXES)
    try:
        encoder.load_state_dict(renamed(state, encoder))
    except (KeyError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{folder} does not fit {settings.base} ({said})", "give the base it stands on"
        ) from error
    return VideoReward(encoder.eval(), calibration, {"source": "KwaiVGI/VideoReward", "accuracy": {}})


def renamed(state: Mapping[str, Tensor], encoder: VlmEncoder) -> dict[str, Tensor]:
    """The published names and shapes as the encoder's. Raises KeyError for a tensor that should be there."""
    stem = "model.base_model.model."
    rows = state["base_model.model.model.embed_tokens.weight"]
    head = state["base_model.model.rm_head.weight"]  # one row for all axes, or one each
    found = {"heads": head.expand(len(AXES), -1).float(), stem + ROWS: rows[encoder.axis_ids]}
    for name in encoder.state_dict().keys() - found.keys():
        inner = name.removeprefix(stem)
        old = inner if inner.startswith("visual.") else f"model.{inner.removeprefix('language_model.')}"
        found[name] = state[f"base_model.model.{old}"]
    return found


def _state_file(folder: Path) -> Path:
    found = sorted(folder.glob("checkpoint-*/model.pth"))
    if not found:
        raise FileNotFoundError("no checkpoint-*/model.pth in it")
    return found[-1]
