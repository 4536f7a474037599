"""Generators of diffusers by name: which pipeline class, and what it is told. Adding one is a row of FAMILIES."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from models.adapters import LoraSettings
from models.weights import device_of, file_hash
from palate.config import Settings
from palate.errors import CheckpointError
from palate.records import content_hash

Name = Literal["wan", "ltx", "hunyuan", "cogvideox", "sd3", "flux", "flux2", "qwenimage", "zimage"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Family:
    """`scales` are the arguments that guidance is told by, if any; `call` is what every call is told besides.

    `guidance` is right for reinforcement learning: none, or what a model that was distilled from guidance wants.
    """

    pipeline: str
    guidance: float = 1.0
    scales: tuple[str, ...] = ("guidance_scale",)
    fps: float = 0.0  # 0: pictures
    call: Mapping[str, Any] = field(default_factory=dict)


# LTX-2's guidances by perturbation and between modalities are off: they are no sum of two outputs
PLAIN = {
    f"{of}{name}": value
    for of in ("", "audio_")
    for name, value in (("stg_scale", 0.0), ("modality_scale", 1.0), ("guidance_rescale", 0.0))
}
FAMILIES: dict[str, Family] = {
    "wan": Family("WanPipeline", fps=16.0),
    "ltx": Family("LTX2Pipeline", fps=24.0, scales=("guidance_scale", "audio_guidance_scale"), call=PLAIN),
    "hunyuan": Family("HunyuanVideo15Pipeline", fps=24.0, scales=()),
    "cogvideox": Family("CogVideoXPipeline", fps=8.0),
    "sd3": Family("StableDiffusion3Pipeline"),
    "flux": Family("FluxPipeline", guidance=3.5),
    "flux2": Family("Flux2Pipeline", guidance=4.0),
    "qwenimage": Family("QwenImagePipeline", scales=("true_cfg_scale",), call={"negative_prompt": " "}),
    "zimage": Family("ZImagePipeline", guidance=0.0),  # which counts from 0, not 1: first + guidance (first - second)
}


class PipelineSettings(Settings):
    """A pipeline of diffusers and how it is asked; 0 is the pipeline's own size.

    Attributes:
        dtype: of the frozen weights where adapters learn; else what float32 weights compute in. In float16 the
            gradients of a mean over a latent's values would all be zero.
        whole: every weight learns, instead of the adapters of `lora`.
        checkpointing: each block's activations are computed again in the backward pass.
        shard: weights are spread over the processes (FSDP2), instead of a copy on each.
    """

    family: Name
    height: int = Field(default=0, ge=0)
    width: int = Field(default=0, ge=0)
    frames: int = Field(default=0, ge=0)
    guidance: float | None = Field(default=None, ge=0)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    whole: bool = False
    lora: LoraSettings = LoraSettings()
    checkpointing: bool = True
    shard: bool = False

    @property
    def about(self) -> Family:
        return FAMILIES[self.family]

    def call(self) -> dict[str, Any]:
        """The arguments of every call."""
        return self.sizes | guidance(self.family, self.strength)

    @property
    def sizes(self) -> dict[str, int]:
        """Those of them that say how large."""
        sizes = {"height": self.height, "width": self.width, "num_frames": self.frames}
        return {name: size for name, size in sizes.items() if size}

    @property
    def strength(self) -> float:
        return self.about.guidance if self.guidance is None else self.guidance


def open_pipeline(settings: PipelineSettings, folder: Path, device: str) -> Any:
    """The pipeline with its weights, to be taught. Raises CheckpointError for what is no such folder."""
    from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler

    pipeline = load_pipeline(settings.family, folder, torch.float32 if settings.whole else DTYPES[settings.dtype])
    set_guider(pipeline, settings.strength)
    if settings.family == "cogvideox":  # the sampler of whose steps the Euler step is one; DPM's needs two outputs
        pipeline.scheduler = CogVideoXDDIMScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device_of(device))


def load_pipeline(family: str, folder: Path, dtype: torch.dtype) -> Any:
    """The pipeline as it was published, on the CPU. Raises CheckpointError for what is no such folder."""
    import diffusers

    wanted = FAMILIES[family].pipeline
    try:
        found = json.loads((folder / "model_index.json").read_text())["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} holds no pipeline of diffusers",
            f"give --weights the folder of one, such as `hf download REPOSITORY --local-dir {folder}` makes",
        ) from error
    if found != wanted:
        raise CheckpointError(f"{folder} holds a {found}, no {wanted}", "give the --generator that its weights are of")
    try:
        pipeline = getattr(diffusers, wanted).from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        remedy = "copy it again, whole; Flux 2's processor wants torchvision installed"
        raise CheckpointError(f"{folder} cannot be loaded ({error})", remedy) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def guidance(family: str, strength: float) -> dict[str, Any]:
    """The arguments of a call with so much guidance, and of no other kind."""
    return dict.fromkeys(FAMILIES[family].scales, strength) | dict(FAMILIES[family].call)


def set_guider(pipeline: Any, strength: float) -> None:
    """The same for a pipeline that keeps its guidance in a guider."""
    if hasattr(pipeline, "guider"):
        from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance

        pipeline.guider = ClassifierFreeGuidance(guidance_scale=strength)


def folder_hash(folder: Path) -> str:
    """Of the names and contents of all files in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return content_hash([[str(path.relative_to(folder)), file_hash(path)] for path in files])
