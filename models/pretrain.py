"""Pretraining of the shapes generator: a recipe in, a checkpoint with its card out.

The data is endless in principle and finite by recipe: clip i is a function of (data seed, i), and the order is a
permutation for each epoch. A clip is drawn when it is needed, or, with `preload`, all of them once at the start by
every core (for a GPU, which would otherwise wait for the renderer).
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from models import flow
from models.codec import PatchCodec
from models.conditions import tokens
from models.dit import Gelu, VideoTransformer, Words
from models.fit import FitSettings, Progress, fit
from models.flavours import FLAVOURS, Flavour, network_shape
from models.gallery import SHOWN, gallery_of
from models.generator import Generator
from models.journal import JOURNAL, Journal
from models.weights import SHIPPED, Card, device_of
from palate import shapes
from palate.config import Settings
from palate.records import content_hash
from palate.version import code_version

Families = tuple[shapes.Family, ...]
CODEC_CLIPS = 1_500


class PretrainRecipe(Settings):
    """What `palate model pretrain` is told. `clips` distinct training clips; `drop_caption` for guidance."""

    flavour: str = "shapes"
    gelu: Gelu = "none"  # while training; the shipped model's first stage was trained with tanh
    start: str = ""  # a checkpoint to go on from ("shipped" is the shipped one), instead of from scratch
    seed: int = 0
    data_seed: int = 0
    families: Families = ("single", "events", "count")
    clips: int = 300_000
    batch: int = 32
    drop_caption: float = 0.1
    shift: float = 3.0
    device: str = "auto"
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    preload: bool = False
    show_every: int = 500  # steps between looks at four prompts (models/gallery.py), of those watched; 0 keeps none
    compile: bool = False  # 1.4x faster on a CPU after a minute of compiling; needs a C++ compiler
    fit: FitSettings = FitSettings(steps=9_000, lr=2e-3, ema=0.999, optimiser="muon")


def pretrain(recipe: PretrainRecipe, folder: Path) -> Generator:
    """Trains (or goes on training) in `folder`; writes `generator.safetensors` there and returns the generator."""
    device = device_of(recipe.device)
    torch.manual_seed(recipe.seed)
    torch.set_float32_matmul_precision("highest" if recipe.precision == "float32" else "high")
    if recipe.start:
        base = Generator.load(SHIPPED if recipe.start == "shipped" else Path(recipe.start))
        network, codec, origin = base.alone.train(), base.codec, {"base": base.checkpoint}
    else:
        flavour = FLAVOURS[recipe.flavour]
        network, codec, origin = (
            VideoTransformer(network_shape(flavour)),
            fit_codec(flavour, recipe.data_seed, recipe.families),
            {},
        )
    codec, network = codec.to(device), network.to(device)
    network.use_gelu(recipe.gelu)
    data = TrainingClips(codec, recipe)
    objective = Denoising(torch.compile(network) if recipe.compile else network, data, recipe)
    told = recipe.model_dump(mode="json")
    journal = Journal(folder / JOURNAL)
    shown = [_caption(recipe, place) for place in range(SHOWN)]
    gallery = gallery_of(Generator(network, codec, {}), shown, folder, recipe.show_every, recipe.fit.steps - 1)

    def watch(progress: Progress) -> None:
        journal(progress)
        gallery(progress)

    identity = content_hash([recipe.model_dump(mode="json", exclude={"show_every"}), origin])
    fit(network, objective, recipe.fit, folder / "state.pt", identity, "pretrain", watch)
    card: Card = {
        "trained": "on rendered captions of the shapes world (train split)",
        "recipe": told,
        "code": code_version(),
        **origin,
    }
    generator = Generator(network.eval(), codec, card)
    generator.save(folder / "generator.safetensors")
    return generator


def _caption(recipe: PretrainRecipe, place: int) -> str:
    """One that is looked at while training: of the train split, since held-out ones are for examinations."""
    return str(shapes.draw_scene(np.random.default_rng([recipe.data_seed, place, 0]), "train", recipe.families))


def fit_codec(flavour: Flavour, seed: int, families: Families = shapes.FAMILIES) -> PatchCodec:
    """The codec of clips that are no part of the training set (its indices start at 0)."""
    clips = [training_clip(seed, -1 - i, families)[1] for i in range(CODEC_CLIPS)]
    return PatchCodec.fit(torch.from_numpy(np.stack(clips)), flavour.patch, flavour.channels)


def training_clip(seed: int, index: int, families: Families = shapes.FAMILIES) -> tuple[str, shapes.Frames]:
    """Caption and clip number `index` of the training data that `seed` names."""
    rng = np.random.default_rng([seed, index % 2**32])
    scene = shapes.draw_scene(rng, "train", families)
    return str(scene), shapes.render(scene, rng)


class TrainingClips:
    """batch(step) -> words and latents of the clips that are due at that step."""

    def __init__(self, codec: PatchCodec, recipe: PretrainRecipe) -> None:
        self.codec, self.recipe = codec, recipe
        self.kept = self._preload() if recipe.preload else None

    def batch(self, step: int) -> tuple[Words, flow.Latents]:
        size = self.recipe.batch
        epoch, start = divmod(step * size, self.recipe.clips - self.recipe.clips % size)
        due = _order(self.recipe.seed, epoch, self.recipe.clips)[start : start + size]
        if self.kept:
            at = torch.from_numpy(due).to(self.kept[0].device)
            return self.kept[0][at].long(), self.kept[1][at].float()
        return _render(self.codec, self.recipe, due.tolist())

    def _preload(self) -> tuple[Tensor, Tensor]:
        """int16 words and bfloat16 latents of all clips, on the codec's device (9 kB a clip)."""
        chunks = [range(i, min(i + 2000, self.recipe.clips)) for i in range(0, self.recipe.clips, 2000)]
        words, latents = [], []
        with ProcessPoolExecutor() as pool:
            for chunk in tqdm(
                pool.map(partial(_draw, self.recipe.data_seed, self.recipe.families), chunks),
                desc="render",
                total=len(chunks),
            ):
                words.append(tokens(chunk[0]).to(self.codec.mean.device, torch.int16))
                latents.append(self.codec.encode(torch.from_numpy(chunk[1]).to(self.codec.mean.device)).bfloat16())
        return torch.cat(words), torch.cat(latents)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, clips: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(clips)


def _draw(seed: int, families: Families, indices: range | list[int]) -> tuple[list[str], shapes.Frames]:
    captions, clips = zip(*(training_clip(seed, i, families) for i in indices))
    return list(captions), np.stack(clips)


def _render(codec: PatchCodec, recipe: PretrainRecipe, indices: list[int]) -> tuple[Words, flow.Latents]:
    captions, clips = _draw(recipe.data_seed, recipe.families, indices)
    device = codec.mean.device
    return tokens(captions).to(device), codec.encode(torch.from_numpy(clips).to(device))


@dataclass
class Denoising:
    """Flow-matching loss: the squared error of the velocity that the predicted x0 stands for."""

    network: Callable[..., flow.Latents]
    data: TrainingClips
    recipe: PretrainRecipe

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        words, x0 = self.data.batch(step)
        rng = torch.Generator(x0.device).manual_seed(self.recipe.seed * 1_000_003 + step)
        t = flow.draw_times(len(x0), self.recipe.shift, rng)
        eps = torch.randn(x0.shape, generator=rng, device=x0.device)
        dropped = torch.rand(len(x0), 1, generator=rng, device=x0.device) < self.recipe.drop_caption
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            guess = self.network(flow.noised(x0, eps, t), t, words.masked_fill(dropped, 0))
        return flow.velocity_error(guess, x0, t).mean(), {}
