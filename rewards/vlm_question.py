"""What a vision-language reward is asked: a video, one question an axis, and the prompt among them.

Every axis has a token of its own, at whose hidden state its score is read. A causal model cannot look ahead, so an axis
that is not to see the prompt has its token before it (VideoAlign, arXiv:2501.13918).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from palate.config import Settings
from palate.errors import ConfigError
from palate.records import Axis
from rewards.encoder import BLIND

SHORT = {"visual_quality": "VQ", "motion_quality": "MQ", "prompt_following": "TA", "overall": "Overall"}  # VideoAlign's
CRITERIA = {
    "visual_quality": "Visual quality: are the frames clear, detailed, well composed and free of artefacts?",
    "motion_quality": "Motion quality: is the movement smooth, stable, natural and physically right?",
    "prompt_following": "Prompt following: do the things, acts, styles and camera of the prompt all show?",
    "overall": "Overall: how much would people like this answer to the prompt?",
}


class VlmSettings(Settings):
    """The vision-language face of a reward.

    `fps` and `frame_pixels` are part of what the reward is: frames are picked at that rate, whatever the file's own,
    and made no larger. `positions` of a video's tokens are row, column and moment, as the base has it, or their order
    in the text, as VideoAlign's trainer has it. A `template` of your own names {video}, {prompt} and each axis once,
    such as {visual_quality}.
    """

    base: str = "Qwen/Qwen2-VL-2B-Instruct"  # a folder or a hub's name: Qwen2-VL, Qwen2.5-VL or Qwen3-VL
    fps: float = Field(default=2.0, gt=0)
    frame_pixels: int = Field(default=448 * 448, ge=28 * 28)
    positions: Literal["grid", "order"] = "grid"
    template: str = ""
    rank: int = Field(default=64, ge=1)
    alpha: int = Field(default=128, ge=1)
    vision: bool = False  # tune the vision tower too, all of it


def token(axis: Axis) -> str:
    return f"<|{SHORT.get(axis, axis)}_reward|>"


def template_of(settings: VlmSettings, axes: Sequence[Axis]) -> str:
    """The settings' template, or one made for these axes.

    Raises ConfigError for a template that lacks a field, has one twice, or shows the prompt to an axis that must be
    blind to it.
    """
    template = settings.template or _made_for(axes)
    fields = re.findall(r"\{(\w+)\}", template)
    wanted = ["video", "prompt", *axes]
    if sorted(fields) != sorted(wanted):
        raise ConfigError(
            f"the template has the fields {', '.join(fields)}", f"it needs each once: {', '.join(wanted)}"
        )
    if seeing := [axis for axis in axes if axis in BLIND and fields.index(axis) > fields.index("prompt")]:
        raise ConfigError(f"the template shows the prompt to {seeing[0]}", f"put {{{seeing[0]}}} before {{prompt}}")
    return template


def _made_for(axes: Sequence[Axis]) -> str:
    blind = [axis for axis in axes if axis in BLIND]
    asked = [f"{CRITERIA.get(axis, axis)} {{{axis}}}" for axis in axes]
    before = [line for axis, line in zip(axes, asked) if axis in blind]
    after = [line for axis, line in zip(axes, asked) if axis not in blind]
    lines = ["{video}", "Judge this video, made by a generator.", *before, "Its prompt: {prompt}", *after]
    return f"<|im_start|>user\n{chr(10).join(lines)}<|im_end|>\n"


def filled(template: str, values: Mapping[str, str]) -> str:
    """In one pass, so that a prompt which looks like a field stays what it is."""
    return re.sub(r"\{(\w+)\}", lambda field: values[field[1]], template)
