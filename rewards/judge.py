"""A vision-language model that judges pairs: asked in both orders, read strictly, and silent where it does not know.

A reply that is not the JSON asked for is no verdict, and neither are two replies that contradict each other: models
prefer a place (GenAI-Bench's often say "B" whatever they see), and only asking both ways shows it. Every reply is kept.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import AutoModelForImageTextToText

from palate.config import Settings
from palate.records import Axis, Comparison, Judgement, Verdict, content_hash
from rewards.chat import object_in
from rewards.reward import Answer
from rewards.vlm_question import CRITERIA
from rewards.vlm_video import opened

Ask = Callable[[Answer, Answer, Axis], str]  # the video that is shown first, second, and what to judge
QUESTION = (
    "<|im_start|>user\nThe first video:\n{first}\nThe second video:\n{second}\nBoth answer this prompt: {prompt}\n"
    "Which is better? {criterion}\n"
    'Answer with JSON alone: {{"better": "first", "second" or "same", "reason": "one sentence"}}<|im_end|>\n'
    "<|im_start|>assistant\n"
)


class JudgeSettings(Settings):
    """`model` is a folder or a hub's name of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL."""

    model: str
    fps: float = Field(default=2.0, gt=0)
    frame_pixels: int = Field(default=448 * 448, ge=28 * 28)
    max_tokens: int = Field(default=128, ge=1)
    device: str = "auto"


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    better: Literal["first", "second", "same"]
    reason: str


@dataclass(frozen=True)
class Opinion:
    """A verdict on the candidate, or None and why; and what was replied to (candidate first, baseline first)."""

    verdict: Verdict | None
    why: str
    replies: tuple[str, str]

    def judgement(self, comparison: Comparison, axis: Axis, settings: JudgeSettings) -> Judgement:
        """As a row of the record, marked as a machine's; the raw replies are its reasons."""
        return Judgement(
            comparison=comparison.id,
            annotator=f"judge {settings.model}",
            simulated=True,
            source=f"judge:{content_hash(settings.model_dump(mode='json'))}",
            verdicts={axis: self.verdict} if self.verdict else {},
            skip=None if self.verdict else self.why,
            reasons=json.dumps(self.replies),
        )


def opinion(ask: Ask, candidate: Answer, baseline: Answer, axis: Axis) -> Opinion:
    """Both orders asked."""
    replies = ask(candidate, baseline, axis), ask(baseline, candidate, axis)
    said: list[Verdict] = []
    for order, reply in enumerate(replies, start=1):
        try:
            better = _Reply.model_validate_json(object_in(reply)).better
        except ValidationError:
            return Opinion(None, f"its reply in order {order} is not the JSON asked for", replies)
        verdict = {"first": Verdict.GOOD, "second": Verdict.BAD, "same": Verdict.SAME}[better]
        said.append(verdict if order == 1 else verdict.swapped)
    if said[0] != said[1]:
        return Opinion(None, f"its verdict turns with the order: {said[0].value}, then {said[1].value}", replies)
    return Opinion(said[0], "", replies)


class LocalJudge:
    """Satisfies `Ask`, without sampling. Raises CheckpointError where there is no such model."""

    def __init__(self, settings: JudgeSettings, device: torch.device | str = "cpu") -> None:
        self.settings, self.device = settings, device
        model, self.eye = opened(AutoModelForImageTextToText, settings.model, settings.fps, settings.frame_pixels)
        self.model = model.to(device).eval()

    @torch.inference_mode()
    def __call__(self, first: Answer, second: Answer, axis: Axis) -> str:
        clips = [self.eye.clip(one.frames, one.fps) for one in (first, second)]
        prompt, criterion = self.eye.checked(first.prompt), CRITERIA.get(axis, axis)
        text = QUESTION.format(first=clips[0].text, second=clips[1].text, prompt=prompt, criterion=criterion)
        told = self.eye.inputs([self.eye.asked(text, *clips)], self.device)
        made = self.model.generate(**told, max_new_tokens=self.settings.max_tokens, do_sample=False)
        return self.eye.tokenizer.decode(made[0, told["input_ids"].shape[1] :], skip_special_tokens=True)
