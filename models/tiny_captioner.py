"""A small captioner of the shapes world: conditions in, the words of a six-part caption out, trained from nothing.

Each condition that is given becomes a few tokens before the words (as in Any2Caption, an encoder a condition and one
language model); one that is not given has none, so leaving it out is the same as never having had it. Each step of the
training takes another set of conditions, and the caption that is true of that set.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the usual name)
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen3Config, Qwen3ForCausalLM

from models.fit import FitSettings, fit
from models.weights import load_checkpoint, save_checkpoint
from palate import givens, shapes
from palate.caption import PARTS, Caption
from palate.config import Settings
from palate.givens import CONDITIONS, Condition, Givens
from palate.records import content_hash
from palate.version import code_version

SHIPPED_CAPTIONER = Path(__file__).parent / "shipped" / "captioner" / "captioner.safetensors"
PAD, BEGIN, BREAK = 0, 1, 2  # BREAK ends a part
WORDS = tuple(
    dict.fromkeys(
        " ".join(
            (
                *("a an on in while the scene camera background style object objects move stay then", givens.UNKNOWN),
                *(*givens.COUNTS, *givens.DISTANCES, *givens.STYLES, *givens.CAMERAS, *shapes.WORDS),
            )
        ).split()
    )
)
_NUMBER = {word: number for number, word in enumerate(WORDS, BREAK + 1)}
LONGEST = 64  # words and breaks of a caption; the longest true one has 45
BATCH = 64
TOKENS: dict[Condition, int] = {  # that a condition becomes: two of a map, one of an object's path or of the camera's
    "image": 2,
    "depth": 2,
    "pose": len(givens.COUNTS),
    "camera": 1,
    "identity": 2,
    "segmentation": 2,
}
MOMENTS = [0, shapes.FRAMES // 2, shapes.FRAMES - 1]  # of a clip that depth and camera are read at

Hidden = Float[Tensor, "batch tokens width"]


class CaptionerShape(Settings):
    """0.45 million parameters."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    hidden: int = 192


class CaptionerRecipe(Settings):
    """What `palate model captioner` is told. Each condition is left out of a step with chance `drop`, never all."""

    seed: int = 0
    shape: CaptionerShape = CaptionerShape()
    batch: int = 32
    drop: float = Field(default=0.5, ge=0, lt=1)
    fit: FitSettings = FitSettings(steps=1_000, lr=4e-3, cooldown=0.3, ema=0.98, save_every=100)


class CaptionerNetwork(nn.Module):
    """An encoder for each condition, and a language model that reads what they say and goes on in words."""

    def __init__(self, shape: CaptionerShape) -> None:
        super().__init__()
        width = shape.width
        self.encoders = nn.ModuleDict(
            {
                "image": _of_maps(3, width),
                "depth": _of_maps(len(MOMENTS), width),
                "pose": _of_numbers(2 * shapes.FRAMES, width),
                "camera": _of_numbers(6 * givens.RAYS**2 * (len(MOMENTS) - 1), width),
                "identity": _of_maps(3, width),
                "segmentation": _of_maps(1, width),
            }
        )
        self.marks = nn.ParameterDict({kind: nn.Parameter(torch.zeros(TOKENS[kind], width)) for kind in CONDITIONS})
        self.language = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=BREAK + 1 + len(WORDS),
                hidden_size=width,
                intermediate_size=shape.hidden,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.heads,
                head_dim=width // shape.heads,
                max_position_embeddings=256,
                tie_word_embeddings=False,
                pad_token_id=PAD,
                bos_token_id=BEGIN,
                eos_token_id=None,
                initializer_range=width**-0.5,
            )
        )

    def prefix(self, given: Sequence[Givens]) -> Hidden:
        """The tokens of conditions that all of these have; a missing object has a token of its encoder's zeros."""
        parts: list[Tensor] = []
        for kind in given[0].kinds:
            tokens = self.encoders[kind](_tensor(kind, [getattr(one, kind) for one in given]))
            parts.append(tokens + self.marks[kind])
        return torch.cat(parts, dim=1)

    def loss(self, given: Sequence[Givens], captions: Sequence[Caption]) -> Tensor:
        """Cross-entropy of the words, from BEGIN."""
        words = pad_sequence([torch.tensor([BEGIN, *numbers(one)]) for one in captions], batch_first=True)
        prefix = self.prefix(given)
        told = torch.cat([prefix, self.language.get_input_embeddings()(words[:, :-1])], dim=1)
        said = self.language(inputs_embeds=told).logits[:, prefix.shape[1] :]
        return F.cross_entropy(said.flatten(0, 1), words[:, 1:].flatten(), ignore_index=PAD)

    @torch.inference_mode()
    def words(self, given: Sequence[Givens]) -> list[list[int]]:
        """The likeliest words, until the last part's BREAK."""
        prefix = self.prefix(given)
        begin = self.language.get_input_embeddings()(torch.full((len(given), 1), BEGIN))
        told = torch.cat([prefix, begin], dim=1)
        language: Any = self.language
        said = language.generate(
            inputs_embeds=told,
            attention_mask=torch.ones(told.shape[:2], dtype=torch.long),
            max_new_tokens=LONGEST,
            do_sample=False,
            stopping_criteria=[_all_parts],
        )
        return said.tolist()


def _of_maps(channels: int, width: int) -> nn.Module:
    """(batch, channels, side, side) -> 2 tokens: what is there on the whole, and what is there most.

    A thing is some seven pixels wide and may be anywhere, so what is seen of it must not depend on where it is.
    """
    convolutions = [
        nn.Conv2d(channels, 24, 3, padding=1),
        nn.Conv2d(24, 32, 3, stride=2, padding=1),
        nn.Conv2d(32, width, 3, stride=2, padding=1),
        nn.Conv2d(width, width, 3, padding=1),
    ]
    for one in convolutions:
        nn.init.kaiming_normal_(one.weight)  # torch's own makes what is seen fainter with each layer
    return nn.Sequential(*(layer for one in convolutions for layer in (one, nn.GELU())), _Gathered(), _mixed(width))


def _of_numbers(size: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size, width), nn.GELU(), _mixed(width))


def _mixed(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


class _Gathered(nn.Module):
    """(batch, width, height, width) -> (batch, 2, width), the mean and the largest."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)


def _all_parts(words: Tensor, _: object, **__: object) -> Tensor:
    return (words == BREAK).sum(dim=1) >= len(PARTS)


def _tensor(kind: Condition, values: Sequence[Any]) -> Tensor:
    """A batch of one condition: maps (batch, channels, side, side), else (batch, tokens, numbers).

    Of what moves, where it is first, and then how far it goes: steps are small beside places.
    """
    if kind == "pose":
        paths = [torch.from_numpy(_steps(one / shapes.SIZE, shapes.SIZE / shapes.SPEED)).flatten(1) for one in values]
        return pad_sequence([F.pad(one, (0, 0, 0, len(givens.COUNTS) - len(one))) for one in paths], batch_first=True)
    batch = torch.from_numpy(np.stack(values)).float()
    match kind:
        case "image" | "identity":
            return batch.movedim(-1, 1) / 127.5 - 1
        case "segmentation":
            return (batch > 0).float()[:, None]
        case "camera":  # the rays' own origin is anywhere
            return (batch[:, MOMENTS[1:]] - batch[:, :1]).flatten(1)[:, None]
        case "depth":
            return torch.cat([batch[:, :1], batch[:, MOMENTS].diff(dim=1)], dim=1)


def _steps(paths: shapes.Points, scale: float) -> NDArray[np.float32]:
    """(objects, frames, 2) -> the same, each point after the first less the one before, times `scale`."""
    return np.concatenate([paths[:, :1], scale * np.diff(paths, axis=1)], axis=1).astype(np.float32)


def numbers(caption: Caption) -> list[int]:
    """Each part's words and its BREAK. Raises KeyError for a word that is none of the world's."""
    return [n for part in caption.parts.values() for n in (*(_NUMBER[word] for word in part.split()), BREAK)]


def reply(words: Sequence[int]) -> str:
    """The JSON of as many parts as were ended, as a language model would give it."""
    parts: list[list[str]] = [[]]
    for number in words:
        if number == BREAK:
            parts.append([])
        elif number > BREAK:
            parts[-1].append(WORDS[number - BREAK - 1])
    return json.dumps(dict(zip(PARTS, (" ".join(part) for part in parts[:-1]))))


@dataclass(frozen=True, eq=False)
class TinyCaptioner:
    network: CaptionerNetwork

    @classmethod
    def load(cls, path: Path) -> "TinyCaptioner":
        """Raises CheckpointError for a missing or damaged file."""
        weights, card = load_checkpoint(path)
        network = CaptionerNetwork(CaptionerShape.model_validate(card["recipe"]["shape"]))
        network.load_state_dict(weights)
        return cls(network.eval())

    def replies(self, given: Sequence[Givens]) -> list[str]:
        """A caption of each, as JSON; all have the same conditions."""
        return [
            reply(words)
            for start in range(0, len(given), BATCH)
            for words in self.network.words(given[start : start + BATCH])
        ]


def conditions_of_step(rng: np.random.Generator, drop: float) -> tuple[Condition, ...]:
    while True:
        kept: tuple[Condition, ...] = tuple(kind for kind in CONDITIONS if rng.random() >= drop)
        if kept:
            return kept


def batch(recipe: CaptionerRecipe, step: int) -> tuple[list[Givens], list[Caption]]:
    """Shots of the train split, the same at every call for the same step."""
    rng = np.random.default_rng([recipe.seed, step])
    kinds: Collection[Condition] = conditions_of_step(rng, recipe.drop)
    drawn = [givens.draw_shot(rng, "train") for _ in range(recipe.batch)]
    return [givens.render(shot, rng, kinds) for shot in drawn], [givens.caption(shot, kinds) for shot in drawn]


def train(recipe: CaptionerRecipe, folder: Path) -> str:
    """Trains (or goes on training) in `folder`; writes `captioner.safetensors` there, and returns its SHA-256."""
    torch.manual_seed(recipe.seed)
    network = CaptionerNetwork(recipe.shape)
    told = recipe.model_dump(mode="json")

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return network.loss(*batch(recipe, step)), {}

    fit(network, loss, recipe.fit, folder / "state.pt", content_hash(told), "captioner")
    card = {"trained": "on rendered shots of the shapes world (train split)", "recipe": told, "code": code_version()}
    return save_checkpoint(folder / "captioner.safetensors", network.state_dict(), card)
