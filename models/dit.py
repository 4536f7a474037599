"""A small rectified-flow video transformer, to be read in one sitting.

One stream: the words of the caption and the latent patches of the clip attend to each other in every layer, over all
of space and time at once (joint attention, as in FullDiT and Kling-Omni). Axial 3-D rotary positions on the patches;
flow time and the pooled caption modulate every layer through one shared projection and a table per layer
(adaLN-single, PixArt-alpha). The network predicts x0.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the usual name)

from models.flow import Latents, Times

Words = Int[Tensor, "batch words"]
Hidden = Float[Tensor, "batch sequence width"]
Heads = Float[Tensor, "batch heads sequence dims"]
Gelu = Literal["none", "tanh"]  # which approximation of it; the exact one is two to three times faster on CPUs


@dataclass(frozen=True)
class DitShape:
    """Sizes of the network. `grid` is (time, height, width) in patches; `words` the vocabulary, padding included."""

    width: int
    depth: int
    heads: int
    channels: int
    grid: tuple[int, int, int]
    words: int
    caption: int  # the longest caption, in words

    @property
    def tokens(self) -> int:
        return math.prod(self.grid)


class VideoTransformer(nn.Module):
    """(x_t, t, words) -> x0. A caption of nothing but padding is the unconditional case of guidance."""

    rotation: Tensor

    def __init__(self, shape: DitShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Linear(shape.channels, shape.width)
        self.words = nn.Embedding(shape.words, shape.width)
        self.word_positions = nn.Parameter(torch.zeros(shape.caption, shape.width))
        self.time = nn.Sequential(nn.Linear(128, shape.width), nn.SiLU(), nn.Linear(shape.width, shape.width))
        self.pooled = nn.Linear(shape.width, shape.width)
        self.modulation = nn.Linear(shape.width, 6 * shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads) for _ in range(shape.depth))
        self.last = nn.Linear(shape.width, 2 * shape.width)
        self.head = nn.Linear(shape.width, shape.channels)
        self.register_buffer("rotation", rotation_angles(shape), persistent=False)
        for layer in (self.modulation, self.last, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.words.weight, std=0.5)

    def use_gelu(self, form: Gelu) -> None:
        for block in self.blocks:
            assert isinstance(block, Block)
            block.gelu = form

    def forward(self, x: Latents, t: Times, words: Words) -> Latents:
        hidden, condition = self.hidden(x, t, words)
        scale, shift = self.last(condition).unsqueeze(1).chunk(2, dim=-1)
        return self.head(normed(hidden[:, -self.shape.tokens :]) * (1 + scale) + shift)

    def hidden(self, x: Latents, t: Times, words: Words) -> tuple[Hidden, Float[Tensor, "batch width"]]:
        """The stream after the last layer, words first, and the condition that modulated it."""
        caption = self.words(words) + self.word_positions
        condition = F.silu(self.time(time_features(t)) + self.pooled(caption.mean(dim=1)))
        modulation = self.modulation(condition).unflatten(1, (6, 1, -1))
        stream = torch.cat([caption, self.embed(x)], dim=1)
        cos, sin = self.rotation.cos(), self.rotation.sin()
        for block in self.blocks:
            stream = block(stream, modulation, cos, sin)
        return stream, condition


class Block(nn.Module):
    """Attention and a feed-forward layer, each scaled, shifted and gated by the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.gelu: Gelu = "none"
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.table = nn.Parameter(torch.zeros(6, 1, width))
        self.table.data[[2, 5]] = 1.0  # gates start open; the shared modulation starts at zero

    def forward(self, hidden: Hidden, modulation: Tensor, cos: Tensor, sin: Tensor) -> Hidden:
        scale1, shift1, gate1, scale2, shift2, gate2 = (modulation + self.table).unbind(dim=1)
        hidden = hidden + gate1 * self.attend(normed(hidden) * (1 + scale1) + shift1, cos, sin)
        feed = self.up(normed(hidden) * (1 + scale2) + shift2)
        return hidden + gate2 * self.down(F.gelu(feed, approximate=self.gelu))

    def attend(self, hidden: Hidden, cos: Tensor, sin: Tensor) -> Hidden:
        q, k, v = self.qkv(hidden).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotated(normed(q), cos, sin), rotated(normed(k), cos, sin)
        return self.out(attention(q, k, v).transpose(1, 2).flatten(2))


def attention(q: Heads, k: Heads, v: Heads) -> Heads:
    """softmax(q k^T / sqrt(dims)) v. On a CPU torch's own goes back through bfloat16 ten times as slowly as this."""
    if q.dtype != torch.bfloat16 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(dim=-1) @ v


def normed(x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:])


def rotated(x: Heads, cos: Tensor, sin: Tensor) -> Heads:
    """Rotary positions: pairs (first half, second half) turn by the angle of their token."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def rotation_angles(shape: DitShape) -> Float[Tensor, "sequence half"]:
    """Axial angles of every token: a quarter of the pairs turn with time, the rest with height and width. Words: 0."""
    half = shape.width // shape.heads // 2
    parts = (half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape.grid), indexing="ij")
    angles = [axis.flatten()[:, None] * 10.0 ** -torch.linspace(0, 1, n) for axis, n in zip(axes, parts)]
    return torch.cat([torch.zeros(shape.caption, half), torch.cat(angles, dim=1)])


def time_features(t: Times) -> Float[Tensor, "batch 128"]:
    frequencies = torch.exp(torch.linspace(0, math.log(1000.0), 64, device=t.device))
    angles = t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
