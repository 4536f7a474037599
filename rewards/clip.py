"""CLIP's agreement of a prompt with frames (arXiv:2104.08718), and PickScore (arXiv:2305.01569), which is such a model
tuned on people's choices: a difference of its logits is the log odds of being chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from palate.errors import CheckpointError
from palate.media import pick_frames
from rewards.reward import Answer, Scored, Unit


@dataclass
class ClipReward:
    """Satisfies `Reward`: a column `clip` (cosine) or `pickscore` (logits), the mean over frames.

    Words beyond what the model can read are cut off, as its makers do. Raises CheckpointError where there is no model.
    """

    kind: Literal["clip", "pickscore"]
    path: str
    fps: float = 1.0
    device: torch.device | str = "cpu"
    _model: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(self.path)
            self._images: Any = AutoImageProcessor.from_pretrained(self.path)
            self._model = AutoModel.from_pretrained(self.path, dtype="auto").to(self.device).eval()
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{self.path} is no CLIP ({said})", "give the folder of one") from error
        if not hasattr(self._model, "logit_scale"):
            raise CheckpointError(f"{self.path} is a {self._model.config.model_type}", "give the folder of a CLIP")

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        unit = Unit.COSINE if self.kind == "clip" else Unit.LOGITS
        return (Scored.of(self.kind, unit, [self._one(one) for one in answers]),)

    @torch.inference_mode()
    def _one(self, answer: Answer) -> float:
        chosen = pick_frames(np.arange(len(answer.frames)) / answer.fps, self.fps)
        pixels = self._images(images=list(answer.frames[chosen]), return_tensors="pt")["pixel_values"]
        words = self._tokenizer(
            answer.prompt,
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        found = self._model(pixel_values=pixels.to(self.device, self._model.dtype), **words)
        cosine = (found.image_embeds.float() @ found.text_embeds.float().T).mean()
        return float(cosine if self.kind == "clip" else cosine * self._model.logit_scale.float().exp())
