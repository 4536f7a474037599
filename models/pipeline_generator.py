"""A pipeline of diffusers that answers prompts with its own sampler, as published or with what it has learned here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from numpy.typing import NDArray
from pydantic import Field

from models.families import DTYPES, folder_hash, guidance, load_pipeline, set_guider
from models.weights import file_hash, load_checkpoint
from palate.config import Settings
from palate.errors import CheckpointError
from palate.records import content_hash

NETWORKS = ("transformer", "transformer_2")


class PipelineSampler(Settings):
    """How a pipeline is asked. 0, and no guidance named, is the pipeline's own."""

    height: int = Field(default=0, ge=0)
    width: int = Field(default=0, ge=0)
    frames: int = Field(default=0, ge=0)
    steps: int = Field(default=0, ge=0)
    guidance: float | None = Field(default=None, ge=0)
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"


@dataclass
class PipelineGenerator:
    """Satisfies what the stages ask of a generator: `clips(prompts, seeds, sampler)` and a `checkpoint` hash.

    One prompt is asked at a time, its noise drawn on the CPU from its own seed, so a clip does not depend on the
    others. A picture is a clip of one frame. Sound is left out.
    """

    pipeline: DiffusionPipeline
    family: str
    checkpoint: str

    @classmethod
    def load(cls, family: str, weights: Path, learned: Path | None, dtype: str) -> "PipelineGenerator":
        """On the GPU where there is one, else in one thread, since those of processes that share cores fight.

        Args:
            weights: a folder in diffusers' format.
            learned: what `palate align` wrote for such weights: adapters, or whole networks.

        Raises:
            CheckpointError: one of these is not there or does not fit.
        """
        torch.set_num_threads(1)
        checkpoint = checkpoint_of(weights, learned)
        pipeline = load_pipeline(family, weights, DTYPES[dtype])
        if learned is not None:
            _teach(pipeline, learned)
        return cls(pipeline.to("cuda" if torch.cuda.is_available() else "cpu"), family, checkpoint)

    @torch.no_grad()
    def clips(self, prompts: Sequence[str], seeds: Sequence[int], sampler: PipelineSampler) -> NDArray[np.uint8]:
        """uint8 (prompts, frames, height, width, 3)."""
        sizes = {"height": sampler.height, "width": sampler.width, "num_frames": sampler.frames}
        told = {name: size for name, size in {**sizes, "num_inference_steps": sampler.steps}.items() if size}
        if sampler.guidance is not None:
            told |= guidance(self.family, sampler.guidance)
            set_guider(self.pipeline, sampler.guidance)
        ask: Any = self.pipeline  # the base class is not callable
        made = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            noise = torch.Generator().manual_seed(seed)
            out = ask(prompt=prompt, generator=noise, output_type="np", return_dict=False, **told)[0]
            made.append(np.asarray(out).reshape(-1, *np.shape(out)[-3:]))
        return (np.stack(made) * 255).round().clip(0, 255).astype(np.uint8)


def checkpoint_of(weights: Path, learned: Path | None) -> str:
    """The hash that names a pipeline with what it has learned."""
    base = folder_hash(weights)
    return base if learned is None else content_hash([base, *(file_hash(path) for path in _files(learned))])


def _files(learned: Path) -> list[Path]:
    """Adapters, or whole networks, that training wrote in a folder."""
    places = [learned / f"{name}.safetensors" for name in NETWORKS]
    places += [learned / name / "diffusion_pytorch_model.safetensors" for name in NETWORKS]
    if not (found := [path for path in places if path.is_file()]):
        raise CheckpointError(f"{learned} holds no transformer", "give the --out folder of a run of `palate align`")
    return found


def _teach(pipeline: DiffusionPipeline, learned: Path) -> None:
    for path in _files(learned):
        name = path.stem if path.parent == learned else path.parent.name
        network = getattr(pipeline, name, None)
        try:
            if network is None:
                raise ValueError(f"no {name} in {type(pipeline).__name__}")
            if path.parent == learned:
                network.load_lora_adapter(learned, prefix="transformer", weight_name=path.name, local_files_only=True)
            else:
                network.load_state_dict(load_checkpoint(path)[0])
        except (ValueError, RuntimeError, KeyError) as error:
            raise CheckpointError(f"{path} was not learned from these weights ({error})", "give its own") from error
