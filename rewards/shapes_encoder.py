"""Scores of videos of the shapes world, on the body of its generator.

The generator already knows what its captions look like, so its layers are where the encoder starts, as a language
model is where a text reward starts. An axis reads their captioned stream through a query of its own, but for the axes
about the picture or the movement, which are not to know the caption. To each axis a small network adds what it makes of
the decoded clip's texture (rewards/texture.py), and that is all that those see.

The body takes a flow time, so the same network scores noised latents, at t > 0, when it is taught to.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the usual name)

from models.codec import PatchCodec
from models.conditions import tokens
from models.dit import DitShape, Hidden, VideoTransformer, Words, normed
from models.flow import Latents, Times
from models.generator import Generator
from palate import shapes
from palate.errors import DataError
from palate.media import pick_frames, shrink
from palate.records import Axis
from rewards.encoder import AxisScores, Encoder
from rewards.reward import Answer
from rewards.texture import NUMBERS, texture

TEXTURE, SPREAD = 64, 5.0  # width of the network that reads it; shares, times this, spread about as 1
Prepared = tuple[Float[Tensor, "tokens channels"], Words, Tensor]  # latents, the caption's word numbers, flow time


class ShapesEncoder(Encoder):
    """(latents, t, words) -> one score an axis, in logits."""

    kind = "shapes"
    sees: Bool[Tensor, " axes"]

    def __init__(self, shape: DitShape, codec: PatchCodec, axes: tuple[Axis, ...], blind: tuple[Axis, ...]) -> None:
        super().__init__()
        self.axes, self.blind, self.codec = axes, blind, codec
        self.body = VideoTransformer(shape)
        del self.body.last, self.body.head  # they predict pixels
        self.queries = nn.Parameter(torch.randn(len(axes), shape.width) * 0.02)
        self.mix = nn.Linear(shape.width, shape.width)
        self.heads = nn.Parameter(torch.randn(len(axes), shape.width) * 0.02)
        self.texture = nn.Sequential(
            nn.Linear(NUMBERS + 1, TEXTURE), nn.GELU(), nn.Linear(TEXTURE, len(axes), bias=False)
        )
        nn.init.zeros_(self.texture[2].weight)  # type: ignore[arg-type]
        self.register_buffer("sees", torch.tensor([axis not in blind for axis in axes]), persistent=False)

    @classmethod
    def from_generator(
        cls, path: Path, axes: tuple[Axis, ...], blind: tuple[Axis, ...], layers: int
    ) -> "ShapesEncoder":
        """On the first `layers` layers of a generator's checkpoint."""
        generator = Generator.load(path)
        shape = DitShape(**{**asdict(generator.network.shape), "depth": layers})
        encoder = cls(shape, generator.codec, axes, blind)
        known = encoder.body.state_dict()
        encoder.body.load_state_dict(
            {name: value for name, value in generator.network.state_dict().items() if name in known}
        )
        return encoder

    def prepare(self, answer: Answer) -> Prepared:
        """The first second as latents. Raises DataError, with the reason, for a video of another size or length."""
        frames = answer.frames
        if answer.fps != shapes.FPS:
            frames = frames[pick_frames([index / answer.fps for index in range(len(frames))], shapes.FPS)]
        if len(frames) != shapes.FRAMES:
            raise DataError(
                f"{len(frames)} frames at {shapes.FPS:g} a second", f"this reward was taught clips of {shapes.FRAMES}"
            )
        clip = shrink(frames, max(frames.shape[1] // shapes.SIZE, 1))
        if clip.shape[1:3] != (shapes.SIZE, shapes.SIZE):
            raise DataError(
                f"a video of {frames.shape[2]} x {frames.shape[1]}", f"give a multiple of {shapes.SIZE} x {shapes.SIZE}"
            )
        latents = self.codec.encode(torch.from_numpy(clip)[None])[0]
        return latents, tokens([answer.prompt])[0], torch.tensor(0.0)

    def noised(self, prepared: Prepared, rng: torch.Generator) -> Prepared:
        """At a time drawn evenly from 0 to 1."""
        latents, words, _ = prepared
        t = torch.rand((), generator=rng)
        return torch.lerp(latents, torch.randn(latents.shape, generator=rng), t), words, t

    def forward(self, prepared: list[Prepared]) -> AxisScores:
        latents, words, t = (torch.stack(part).to(self.queries.device) for part in zip(*prepared))
        return self.scores(latents, t, words)

    def scores(self, latents: Latents, t: Times, words: Words) -> AxisScores:
        """At flow time t, 0 for a finished video."""
        told = SPREAD * texture(self.codec.to(latents.device).levels(latents))
        drawn = self.texture(torch.cat([told, t[:, None]], dim=1))
        return drawn + torch.where(self.sees, self._read(self.body.hidden(latents, t, words)[0]), 0.0)

    def _read(self, stream: Hidden) -> AxisScores:
        stream = normed(stream)
        attention = (stream @ self.queries.T * stream.shape[-1] ** -0.5).softmax(dim=1)
        pooled = torch.einsum("bsa,bsw->baw", attention, stream)
        return (F.gelu(self.mix(pooled)) * self.heads).sum(dim=-1)

    def card(self) -> dict[str, Any]:
        return {"kind": self.kind, "shape": asdict(self.body.shape), "patch": self.codec.patch, "blind": self.blind}

    def tensors(self) -> dict[str, Tensor]:
        return {**self.state_dict(), **self.codec.tensors()}

    @classmethod
    def from_card(cls, card: dict[str, Any], axes: tuple[Axis, ...], tensors: dict[str, Tensor]) -> "ShapesEncoder":
        """Raises KeyError or RuntimeError for a checkpoint that does not fit its card."""
        parts = {name.removeprefix("codec."): value for name, value in tensors.items() if name.startswith("codec.")}
        codec = PatchCodec(tuple(card["patch"]), parts["mean"], parts["basis"], parts["scale"])
        shape = DitShape(**{**card["shape"], "grid": tuple(card["shape"]["grid"])})
        encoder = cls(shape, codec, axes, tuple(card["blind"]))
        encoder.load_state_dict({name: value for name, value in tensors.items() if not name.startswith("codec.")})
        return encoder
