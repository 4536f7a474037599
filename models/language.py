"""Language models of transformers by path, with or without eyes: how one is opened, and how it is asked about pictures.

Pictures are made into patches by the model's own image processor, which needs no torchvision, unlike its processor of
videos; this is written out for the families whose whole processor cannot be had without it (Qwen2-VL, Qwen2.5-VL,
Qwen3-VL).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

from models.weights import device_of, file_hash
from palate.errors import CheckpointError
from palate.media import Frames
from palate.records import content_hash

SEEING = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
Content = Sequence[str | Frames]  # of a message: words and pictures (height, width, 3), in their order


class Sight:
    """A vision-language model that is asked one question of words and pictures at a time, by the likeliest words.

    Raises:
        CheckpointError: there is none at `path`, of a family that is known here, with a chat template.
    """

    def __init__(self, model: Any, tokenizer: Any, path: str | Path) -> None:
        if model.config.model_type not in SEEING:
            raise CheckpointError(f"{path} is a {model.config.model_type}", f"give one of {', '.join(SEEING)}")
        with _reading(path):
            self.images = AutoImageProcessor.from_pretrained(path)
        self.model, self.tokenizer = model, tokenizer
        self.mark = tokenizer.convert_ids_to_tokens(model.config.image_token_id)

    @classmethod
    def open(cls, path: str | Path, device: str = "auto") -> "Sight":
        where = device_of(device)
        dtype = torch.float32 if where.type == "cpu" else "auto"
        return cls(language_model(path, dtype=dtype).to(where).eval(), tokenizer_of(path), path)

    @torch.inference_mode()
    def answer(self, system: str, content: Content, longest: int) -> str:
        """What it says, tags and all, in at most `longest` tokens. Words that control the model must not be in it."""
        told = self._inputs(system, content)
        said = self.model.generate(
            **{name: value.to(self.model.device) for name, value in told.items()},
            max_new_tokens=longest,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return self.tokenizer.decode(said[0, told["input_ids"].shape[1] :], skip_special_tokens=True)

    def _inputs(self, system: str, content: Content) -> Mapping[str, torch.Tensor]:
        """Each picture stands as as many tokens as its patches make."""
        pictures = [one for one in content if not isinstance(one, str)]
        parts = [{"type": "text", "text": one} if isinstance(one, str) else {"type": "image"} for one in content]
        asked = [{"role": "system", "content": system}, {"role": "user", "content": parts}]
        text: str = self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        seen = self.images(images=pictures, return_tensors="pt") if pictures else {}
        sizes = [int(grid.prod()) // self.images.merge_size**2 for grid in seen["image_grid_thw"]] if pictures else []
        first, *rest = text.split(self.mark)
        text = first + "".join(self.mark * size + piece for size, piece in zip(sizes, rest, strict=True))
        told = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")
        kinds = (told["input_ids"] == self.model.config.image_token_id).int()
        return {**told, **seen, **({"mm_token_type_ids": kinds} if pictures else {})}


def language_model(path: str | Path, **more: Any) -> Any:
    """The causal or vision-language model at `path`. Raises CheckpointError where there is neither."""
    with _reading(path):
        config = AutoConfig.from_pretrained(path)
        causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        return (AutoModelForCausalLM if causal else AutoModelForImageTextToText).from_pretrained(path, **more)


def tokenizer_of(path: str | Path) -> Any:
    """Its tokenizer. Raises CheckpointError where there is none, or it has no chat template."""
    with _reading(path):
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    if not tokenizer.chat_template:
        raise CheckpointError(f"the tokenizer of {path} has no chat template", "give a model tuned for chat")
    return tokenizer


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is no language model ({said})", "give the folder of one") from error


def weights_hash(folder: Path) -> str:
    """SHA-256 of a folder's weights; of the name, where it is a hub's."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return file_hash(files[0])
    return content_hash([file_hash(file) for file in files] if files else str(folder))
