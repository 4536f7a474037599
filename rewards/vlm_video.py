"""Videos for a vision-language model of transformers (Qwen2-VL, Qwen2.5-VL, Qwen3-VL), with or without torchvision.

A video goes in as a video on every machine: the library makes patches of its frames as images, which needs no
torchvision, and frames that share a patch are joined here. So an answer does not depend on what is installed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoImageProcessor, AutoTokenizer

from palate.errors import CheckpointError, DataError
from palate.media import Frames, pick_frames

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
VIDEO = 2  # transformers' number for tokens of a video


@dataclass(frozen=True)
class Clip:
    """Patches of a video, their (time, height, width), and the text that stands for it."""

    patches: Float[Tensor, "patches values"]
    grid: tuple[int, int, int]
    text: str


@dataclass(frozen=True)
class Asked:
    """A question as tokens, and its videos in the order in which they stand there."""

    ids: list[int]
    clips: tuple[Clip, ...]


@dataclass
class Eye:
    """How a model of `config`, from the folder or hub's name `base`, sees. Raises CheckpointError for another family.

    Frames are picked `fps` times a second, whatever the video's own rate, and made no larger than `frame_pixels`.
    """

    base: str
    config: Any
    fps: float
    frame_pixels: int
    tokenizer: Any = field(init=False, repr=False)
    images: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.config.model_type not in FAMILIES:
            raise CheckpointError(f"{self.base} is a {self.config.model_type}", f"give a {', '.join(FAMILIES)}")
        self.tokenizer = AutoTokenizer.from_pretrained(self.base)
        self.images = AutoImageProcessor.from_pretrained(self.base)

    def clip(self, frames: Frames, fps: float) -> Clip:
        times = np.arange(len(frames)) / fps
        chosen = pick_frames(times, self.fps)
        joined = self.images.temporal_patch_size
        chosen = np.concatenate([chosen, chosen[-1:].repeat(-len(chosen) % joined)])
        size = {"shortest_edge": min(28 * 28, self.frame_pixels), "longest_edge": self.frame_pixels}
        seen = self.images(images=list(frames[chosen]), size=size, return_tensors="pt")
        _, height, width = seen["image_grid_thw"][0].tolist()
        grid = (len(chosen) // joined, height, width)
        # An image is a patch's frame repeated: of each frame that shares a patch its own turn is kept.
        patches = seen["pixel_values"].unflatten(0, (grid[0], joined, -1)).unflatten(-1, (3, joined, -1))
        patches = patches.diagonal(dim1=1, dim2=4).movedim(-1, 3).flatten(2).flatten(0, 1)
        moments = times[chosen].reshape(-1, joined)[:, [0, -1]].mean(axis=1)
        return Clip(patches, grid, self._text(grid, moments.tolist()))

    def _text(self, grid: tuple[int, int, int], moments: list[float]) -> str:
        """Where the video stands; Qwen3-VL is told each moment in words."""
        named = ("vision_start_token_id", "video_token_id", "vision_end_token_id")
        start, video, end = self.tokenizer.convert_ids_to_tokens([getattr(self.config, name) for name in named])
        length = grid[1] * grid[2] // self.images.merge_size**2
        if self.config.model_type == "qwen3_vl":
            return "".join(f"<{moment:.1f} seconds>{start}{video * length}{end}" for moment in moments)
        return f"{start}{video * (grid[0] * length)}{end}"

    def checked(self, prompt: str) -> str:
        """The prompt; raises DataError for one with a control token of the model in it."""
        if spoken := [one for one in self.tokenizer.get_added_vocab() if one in prompt]:
            raise DataError(f"the prompt holds {spoken[0]}", "take it out: the model reads that as a command")
        return prompt

    def asked(self, text: str, *clips: Clip) -> Asked:
        return Asked(self.tokenizer(text, add_special_tokens=False)["input_ids"], clips)

    def inputs(self, questions: Sequence[Asked], device: torch.device | str) -> dict[str, Any]:
        """What the model is called with; shorter questions are padded on the right."""
        ids = pad_sequence([torch.tensor(one.ids) for one in questions], batch_first=True).to(device)
        lengths = torch.tensor([len(one.ids) for one in questions], device=device)
        clips = [clip for one in questions for clip in one.clips]
        told: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": (torch.arange(ids.shape[1], device=device) < lengths[:, None]).long(),
            "mm_token_type_ids": VIDEO * (ids == self.config.video_token_id).int(),
            "pixel_values_videos": torch.cat([one.patches for one in clips]).to(device),
            "video_grid_thw": torch.tensor([one.grid for one in clips], device=device),
        }
        if self.config.model_type == "qwen2_5_vl":  # its positions are in seconds
            told["second_per_grid_ts"] = torch.full((len(clips),), self.images.temporal_patch_size / self.fps)
        return told


def opened(kind: Any, base: str, fps: float, frame_pixels: int) -> tuple[Any, Eye]:
    """A model by `kind`, an Auto class of transformers, and how it sees. Raises CheckpointError where there is none."""
    try:
        model = kind.from_pretrained(base, dtype="auto")
        return model, Eye(base, model.config, fps, frame_pixels)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{base} is no vision-language model ({said})", "give one's folder") from error
