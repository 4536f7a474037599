"""The shapes generator: a caption and a seed in, a clip out. One file holds network, codec, guide if any, and card."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import flow
from models.codec import PatchCodec
from models.conditions import tokens
from models.dit import DitShape, VideoTransformer, Words
from models.guide import Guide
from models.weights import Card, file_hash, load_checkpoint, save_checkpoint
from palate.config import Settings
from palate.errors import CheckpointError

GUIDE = "guide."


class SamplerSettings(Settings):
    """How a clip is drawn: Euler steps, guidance scale (1 is none), and the shift of times toward noise."""

    steps: int = 8
    guidance: float = 1.0
    shift: float = 3.0


@dataclass
class Generator:
    """Satisfies what the stages ask of a generator: `clips(prompts, seeds, sampler)` and a `checkpoint` hash.

    A clip is a function of weights, caption, seed and sampler, up to rounding: give the same captions in one call
    and every bit is the same.
    """

    network: VideoTransformer
    codec: PatchCodec
    card: Card
    checkpoint: str = ""
    guide: Guide | None = None

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "Generator":
        tensors, card = load_checkpoint(path)
        try:
            network = VideoTransformer(DitShape(**{**card["shape"], "grid": tuple(card["shape"]["grid"])}))
            codec = PatchCodec(
                tuple(card["patch"]), *(tensors.pop(f"codec.{part}") for part in ("mean", "basis", "scale"))
            )
            leads = {name: tensors.pop(name) for name in list(tensors) if name.startswith(GUIDE)}
            network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
            guide = None
            if leads:
                guide = Guide(network, network.shape.tokens * network.shape.channels, **card["guide"])
                guide.load_state_dict({name.removeprefix(GUIDE): tensor.float() for name, tensor in leads.items()})
                guide.to(device).eval()
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} holds another model ({error})", "give a checkpoint of this generator"
            ) from error
        return cls(network.to(device).eval(), codec.to(device), card, file_hash(path), guide)

    @classmethod
    def load_for_worker(cls, path: Path) -> "Generator":
        """For one of several processes: one thread each, since threads of processes that share cores fight."""
        torch.set_num_threads(1)
        return cls.load(path)

    def save(self, path: Path, tensors: Mapping[str, Tensor] | None = None) -> str:
        """Writes the checkpoint, of the network or of `tensors` in its stead; returns and keeps its SHA-256."""
        card = {**self.card, "shape": asdict(self.network.shape), "patch": self.codec.patch}
        kept = dict(self.network.state_dict() if tensors is None else tensors)
        if self.guide:
            card["guide"] = self.guide.card()
            kept |= {GUIDE + name: tensor for name, tensor in self.guide.state_dict().items()}
        self.checkpoint = save_checkpoint(path, {**kept, **self.codec.tensors()}, card)
        return self.checkpoint

    @property
    def device(self) -> torch.device:
        return self.codec.mean.device

    def noise(self, seeds: Sequence[int]) -> flow.Latents:
        """Each seed's own noise, drawn on the CPU so that it is the same on every device and in every batch."""
        shape = (self.network.shape.tokens, self.network.shape.channels)
        draws = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(draws).to(self.device)

    def predictor(self, words: Words, guidance: float) -> flow.Predict:
        """x0 of the network under its caption, guided away from no caption, and led by the guide."""
        predict = flow.guided(
            lambda x, t: self.network(x, t, words),
            lambda x, t: self.network(x, t, torch.zeros_like(words)),
            guidance,
        )
        guide = self.guide
        return guide.leading(predict, lambda x, t: guide.network(x, t, words)) if guide else predict

    @property
    def alone(self) -> VideoTransformer:
        """The network, to be taught further. Raises CheckpointError where it draws led by a guide, not alone."""
        if self.guide:
            told = f"generator {self.checkpoint[:12]} is led by a guide"
            raise CheckpointError(told, "give the one that the guide was taught for")
        return self.network

    @torch.no_grad()
    def latents(self, prompts: Sequence[str], seeds: Sequence[int], sampler: SamplerSettings) -> Tensor:
        words = tokens(prompts).to(self.device)
        times = flow.grid(sampler.steps, sampler.shift)
        return flow.euler(self.predictor(words, sampler.guidance), self.noise(seeds), times)

    def clips(self, prompts: Sequence[str], seeds: Sequence[int], sampler: SamplerSettings) -> NDArray[np.uint8]:
        """uint8 (prompts, frames, height, width, 3)."""
        return self.codec.decode(self.latents(prompts, seeds, sampler)).cpu().numpy()
