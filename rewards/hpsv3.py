"""HPSv3 (Ma et al., arXiv:2508.03789): what a picture is worth to people, and how certain that is.

A Qwen2-VL reads the picture, the prompt and a token; the hidden state there goes through three layers to mu and
log sigma. It was taught on pairs by -E log sigmoid(r1 - r2), with r of each picture ~ N(mu, sigma^2) and the first
preferred, so a difference of mu is in logits.

The published file (MizzenAI/HPSv3) holds all weights of a tuned Qwen2-VL-7B-Instruct; which token numbers and what size
of picture go with them is the base's folder and this file's. Its tokens were counted one by one, without the rows and
columns of the picture that the base's own positions have. The text that it was asked with is not part of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils.hub import cached_file

from palate.errors import CheckpointError, ConfigError, DataError
from palate.media import Frames, pick_frames
from rewards.reward import Answer, Scored, Unit
from rewards.vlm_question import filled
from rewards.vlm_video import opened

TOKEN = "<|Reward|>"
PIXELS = 256 * 28 * 28  # of a picture, whatever its own size
FIELDS = ("{picture}", "{prompt}", TOKEN)
LAYERS = ("rm_head.0", "rm_head.3", "rm_head.5")


@dataclass
class Hpsv3Reward:
    """Satisfies `Reward`: columns `hpsv3` (mu) and `hpsv3.sigma`, means over frames, both in logits.

    `path` is a folder or a hub's name with HPSv3.safetensors, `base` those of the Qwen2-VL that it was tuned from, and
    `template` the whole text that it was asked with, with {picture}, {prompt} and <|Reward|> once each.

    Raises CheckpointError where there is no such model, and ConfigError for another template.
    """

    path: str
    base: str
    template: str
    fps: float = 1.0
    device: torch.device | str = "cpu"
    _model: Any = field(init=False, repr=False)
    _head: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if wrong := [name for name in FIELDS if self.template.count(name) != 1]:
            raise ConfigError(f"the template has {wrong[0]} not once", f"give HPSv3's, with {', '.join(FIELDS)}")
        model, self._eye = opened(AutoModel, self.base, self.fps, PIXELS)
        self._eye.tokenizer.add_tokens([TOKEN], special_tokens=True)
        self._token: int = self._eye.tokenizer.convert_tokens_to_ids(TOKEN)
        try:
            state = load_file(str(cached_file(self.path, "HPSv3.safetensors")))
            model.resize_token_embeddings(len(_of(state, "language_model.embed_tokens.weight")))
            model.load_state_dict({name: _of(state, name) for name in model.state_dict()})
            self._head = _head(state)
        except (OSError, KeyError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{self.path} is no HPSv3 on {self.base} ({said})", "give both as published"
            ) from error
        self._model = model.to(self.device).eval()
        self._head.to(self.device)

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        found = [self._one(one) for one in answers]
        names = ("hpsv3", "hpsv3.sigma")
        return tuple(Scored.of(name, Unit.LOGITS, [one[at] for one in found]) for at, name in enumerate(names))

    def _one(self, answer: Answer) -> tuple[float | str, float | str]:
        """Mu and sigma of a video, or why there are none."""
        try:
            prompt = self._eye.checked(answer.prompt)
        except DataError as error:
            return str(error), str(error)
        chosen = pick_frames(np.arange(len(answer.frames)) / answer.fps, self.fps)
        mu, log_sigma = torch.stack([self._read(frame, prompt) for frame in answer.frames[chosen]]).T
        return float(mu.mean()), float(log_sigma.exp().mean())

    @torch.inference_mode()
    def _read(self, frame: Frames, prompt: str) -> Tensor:
        """(2,) mu and log sigma."""
        eye = self._eye
        size = {"shortest_edge": PIXELS, "longest_edge": PIXELS}
        seen = eye.images(images=[frame], size=size, return_tensors="pt").to(self.device)
        places = int(seen["image_grid_thw"].prod()) // eye.images.merge_size**2
        named = (eye.config.vision_start_token_id, eye.config.image_token_id, eye.config.vision_end_token_id)
        start, picture, end = eye.tokenizer.convert_ids_to_tokens(named)
        text = filled(self.template, {"picture": start + picture * places + end, "prompt": prompt})
        ids = torch.tensor([eye.asked(text).ids], device=self.device)
        order = torch.arange(ids.shape[1], device=self.device).expand(3, 1, -1)
        told = {"input_ids": ids, "position_ids": order, "mm_token_type_ids": (ids == eye.config.image_token_id).int()}
        hidden = self._model(**told, **seen, use_cache=False).last_hidden_state[0]
        return self._head(hidden[ids[0] == self._token][0].float())


def _of(state: Mapping[str, Tensor], name: str) -> Tensor:
    """A weight of the model by its name today, from a file with those of any version of transformers."""
    old = name if name.startswith("visual.") else f"model.{name.removeprefix('language_model.')}"
    return state[f"model.{name}"] if f"model.{name}" in state else state[old]


def _head(state: Mapping[str, Tensor]) -> nn.Module:
    layers: list[nn.Module] = []
    for name in LAYERS:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
