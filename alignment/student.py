"""The generator that is taught: how it is evaluated, what of it learns, how that is written down, and how videos become
latents of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Discriminator, Tag
from torch import nn

from alignment.policy import Policy, ShapesPolicy
from models.encoding import fitted
from models.families import DTYPES, PipelineSettings, folder_hash, open_pipeline
from models.generator import Generator
from models.guide import Guide
from models.launch import first_process, shard, world
from models.pipelines import TracedPipeline
from models.sde import State
from models.state import whole
from models.weights import SHIPPED, Card, device_of, file_hash, save_checkpoint
from palate import shapes
from palate.config import Settings
from palate.errors import CheckpointError, ConfigError, DataError
from palate.media import Video, shrink
from palate.records import content_hash


class ShapesSettings(Settings):
    """The shapes generator. `dtype` is what its float32 weights compute in.

    `learned` names the parts of the network (modules or parameters) that learn, as LoRA's targets do; none: all.
    """

    family: Literal["shapes"] = "shapes"
    learned: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16"] = "float32"
    shard: bool = False


def _family(told: Any) -> str:
    family = told.get("family", "shapes") if isinstance(told, dict) else getattr(told, "family", "shapes")
    return "shapes" if family == "shapes" else "pipeline"


GeneratorSettings = Annotated[
    Annotated[ShapesSettings, Tag("shapes")] | Annotated[PipelineSettings, Tag("pipeline")], Discriminator(_family)
]


@dataclass(frozen=True)
class Written:
    """Where what was learned lies, and the SHA-256 of each file of it (on the first process)."""

    path: Path
    checkpoints: tuple[str, ...]

    @property
    def checkpoint(self) -> str:
        return self.checkpoints[0]


@dataclass(frozen=True)
class Student:
    """`precision` is what float32 weights compute in; `write` takes a folder, a card and the guide if any.

    `encode` makes the latents (1, ...) of a video, once conditions have been asked for, or raises DataError; `encoder`
    names all that they depend on but the video, or is None where they cost next to nothing.
    """

    policy: Policy
    network: nn.Module
    checkpoint: str
    fps: float
    device: torch.device
    precision: torch.dtype
    write: Callable[[Path, Card, Guide | None], Written]
    encoder: str | None
    encode: Callable[[Video], State]


def student_of(settings: GeneratorSettings, weights: Path | None, device: str) -> Student:
    """Raises CheckpointError for weights that are not the generator's, and ConfigError for adapters without a layer."""
    if isinstance(settings, ShapesSettings):
        return _shapes(settings, weights or SHIPPED, device)
    if weights is None:
        raise CheckpointError(f"no weights of {settings.family}", "give --weights, a folder in diffusers' format")
    return _pipeline(settings, weights, device)


def _shapes(settings: ShapesSettings, weights: Path, device: str) -> Student:
    generator = Generator.load(weights, device_of(device))
    network = generator.alone.train()
    if settings.learned:
        _freeze_but(network, settings.learned)
    policy = ShapesPolicy(generator)
    if settings.shard and world() > 1:
        shard(network)

    def write(folder: Path, card: Card, guide: Guide | None) -> Written:
        tensors = {name: whole(value) for name, value in network.state_dict().items()}
        path = folder / "generator.safetensors"
        led = Generator(network, generator.codec, card, guide=guide)
        return Written(path, (led.save(path, tensors),) if first_process() else ())

    def encode(video: Video) -> State:
        length, height, width = video.frames.shape[:3]
        if length != shapes.FRAMES or height != width or height % shapes.SIZE:
            raise DataError(
                f"a clip of {length} frames of {width} x {height}, where the shapes world has {shapes.FRAMES} of "
                f"{shapes.SIZE} x {shapes.SIZE} and multiples",
                "give --generator, and preferences among videos of its own",
            )
        clip = torch.from_numpy(shrink(video.frames, height // shapes.SIZE))
        return generator.codec.encode(clip[None].to(generator.device))

    precision = DTYPES[settings.dtype]
    return Student(policy, network, generator.checkpoint, shapes.FPS, generator.device, precision, write, None, encode)


def _freeze_but(network: nn.Module, parts: tuple[str, ...]) -> None:
    """Raises ConfigError for a part that the network has not."""
    known = {part for name, _ in network.named_parameters() for part in name.split(".")}
    if unknown := set(parts) - known:
        raise ConfigError(
            f"generator.learned: the network has no {', '.join(sorted(unknown))}",
            f"give some of {', '.join(sorted(known))}",
        )
    for name, p in network.named_parameters():
        p.requires_grad_(not set(parts).isdisjoint(name.split(".")))


def _pipeline(settings: PipelineSettings, weights: Path, device: str) -> Student:
    from models.adapters import adapt, adapters_of

    pipeline = open_pipeline(settings, weights, device)
    policy = TracedPipeline(pipeline, **settings.call())
    names = ("transformer", "transformer_2")[: len(policy.networks)]
    for network in policy.networks:
        network.requires_grad_(settings.whole)
        if not settings.whole:
            adapt(network, settings.lora)
        if settings.checkpointing:
            network.enable_gradient_checkpointing()  # type: ignore[operator]
    if settings.shard and world() > 1:
        shard(policy.network)

    def write(folder: Path, card: Card, _: Guide | None) -> Written:
        found = []
        for name, network in zip(names, policy.networks):
            if settings.whole:
                path = folder / name / "diffusion_pytorch_model.safetensors"
                tensors = {key: whole(value) for key, value in network.state_dict().items()}
            else:
                path, tensors = folder / f"{name}.safetensors", adapters_of(network)
            if first_process():
                found.append(save_checkpoint(path, tensors, card))
                if settings.whole:
                    network.save_config(path.parent)  # type: ignore[operator]
        return Written(folder, tuple(found))

    def encode(video: Video) -> State:
        return policy.latents(fitted(video, *policy.size, settings.about.fps))

    precision = DTYPES[settings.dtype] if settings.whole else torch.float32
    where: Any = policy.networks[0].device
    fps = settings.about.fps or 1.0
    parts = [folder_hash(weights / "vae"), file_hash(weights / "transformer" / "config.json")]
    encoder = content_hash([settings.family, settings.sizes, *parts])
    return Student(policy, policy.network, folder_hash(weights), fps, where, precision, write, encoder, encode)
