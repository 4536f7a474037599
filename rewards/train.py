"""Training a reward on what people said of pairs: every step encodes each of its videos once.

A step takes whole prompts, so that all pairs among the videos of a prompt share their encodings: with VideoAlign's 3.4
sides a video that is 3.4 times fewer encodings than pair by pair, at the same gradient. Prompts are split into those
that are learned from, those that decide when to stop and calibrate, and those that the card's accuracy is measured on.

With several processes (torchrun) each takes its part of a step's prompts, and the gradient is that of the whole step.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the usual name)

from models import launch
from models.fit import FitSettings, fit
from models.journal import JOURNAL, Journal
from models.weights import SHIPPED, device_of
from palate.config import Settings
from palate.errors import DataError
from palate.files import whole_file
from palate.records import Axis, Estimate, content_hash
from palate.stats.metric import accuracy
from palate.stats.ties import Ties
from palate.version import code_version
from rewards.encoder import BLIND, Encoder
from rewards.pairs import PairSet
from rewards.preference import bradley_terry, rating, with_ties
from rewards.shapes_encoder import ShapesEncoder
from rewards.video_reward import Calibration, VideoReward, vlm_encoder
from rewards.vlm_question import VlmSettings

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


class RewardRecipe(Settings):
    """What `palate reward train` is told.

    `face` is the network: "shapes" on the body of a generator, or "vlm" on a vision-language model. `learn` is what
    from: which of two videos people prefer, or how many stars they gave each. `prompts` a step, each with all its
    pairs. Every `every` steps the validation prompts are asked; `patience` times without a gain end the run. `k` is
    Rao and Kupper's k or Davidson's nu, as `ties` says; 0 learns it, an axis its own. `margin` is the lead in logits
    that is asked for where ties are left out. `noised` is the share of a step's prompts whose videos are all put under
    the same noise, so that the reward can guide a sampler (rewards/guidance.py).
    """

    seed: int = 0
    device: str = "auto"
    face: Literal["shapes", "vlm"] = "shapes"
    start: str = ""  # the generator whose body a "shapes" encoder starts from; default: the shipped one
    layers: int = 4
    vlm: VlmSettings = VlmSettings()
    learn: Literal["preferences", "ratings"] = "preferences"
    prompts: int = 8
    ties: Literal["none"] | Ties = "rao_kupper"
    k: float = Field(default=0.0, ge=0)
    margin: float = Field(default=0.0, ge=0)
    noised: float = Field(default=0.0, ge=0, le=1)
    validation: float = 0.1
    test: float = 0.1
    every: int = 50
    patience: int = 5
    fit: FitSettings = FitSettings(steps=1000, lr=3e-4, warmup=50, weight_decay=0.05, ema=0.98)

    @model_validator(mode="after")
    def _says_nothing_idle(self) -> Self:
        if self.margin and self.ties != "none":
            raise ValueError("a margin goes with ties=none; where ties are modelled, k is what sets sides apart")
        if self.ties == "rao_kupper" and 0 < self.k <= 1:
            raise ValueError("Rao and Kupper's k is above 1; 0 learns it")
        return self


def part_of(prompt: str, recipe: RewardRecipe) -> Part:
    """A prompt's part, by its hash: the same in every set, however large."""
    place = int(content_hash([recipe.seed, prompt])[:8], 16) / 16**8
    if place < recipe.test:
        return "test"
    return "validation" if place < recipe.test + recipe.validation else "train"


def split(pairs: PairSet, recipe: RewardRecipe) -> dict[Part, PairSet]:
    """Raises DataError where a part would be empty."""
    parts = np.array([part_of(prompt, recipe) for prompt in pairs.prompts])
    cut: dict[Part, PairSet] = {part: pairs.select(parts == part) for part in PARTS}
    if empty := [part for part, chosen in cut.items() if not len(chosen)]:
        raise DataError(f"{len(set(pairs.prompts))} prompts leave none for {empty[0]}", "collect more, or enlarge it")
    return cut


class Learner(nn.Module):
    """An encoder, and for each axis how readily people call two videos the same."""

    def __init__(self, encoder: Encoder, recipe: RewardRecipe) -> None:
        super().__init__()
        self.encoder = encoder
        self.ties = recipe.ties
        learned = recipe.learn == "preferences" and recipe.ties != "none" and not recipe.k
        t = np.log(recipe.k or 2.7)
        raw = t if recipe.ties == "davidson" else np.log(np.expm1(t))
        self.tie = nn.Parameter(torch.full((len(encoder.axes),), float(raw)), requires_grad=learned)

    @property
    def t(self) -> Tensor:
        """(axes,) the tie parameter of `rewards.preference`: log k, above zero, or log nu."""
        return self.tie if self.ties == "davidson" else F.softplus(self.tie)

    def forward(self, prepared: list[Any]) -> Tensor:
        return self.encoder(prepared)


@dataclass
class Comparing:
    """The objective for the training loop: the prompts of a step, from its number."""

    learner: Learner
    pairs: PairSet
    axes: tuple[Axis, ...]
    recipe: RewardRecipe
    rank: int = 0
    world: int = 1
    encoded: int = field(default=0, init=False)  # videos encoded so far

    def __post_init__(self) -> None:
        if self.recipe.ties == "none":
            self.pairs = self.pairs.without_ties()
        self.rows: dict[str, list[int]] = {}
        for row, prompt in enumerate(self.pairs.prompts):
            self.rows.setdefault(prompt, []).append(row)
        self.names = sorted(self.rows)
        self.columns = [self.pairs.axes.index(axis) for axis in self.axes]
        self.stars = self._ratings() if self.recipe.learn == "ratings" else None
        self.prepared = lru_cache(maxsize=50_000)(self._prepared)

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        whole = sum(self._size(self.rows_of(self._due(step, rank))) for rank in range(self.world))
        rows = self.rows_of(self.due(step))
        used = self._used(rows)
        scores = self.learner([self._seen(row, step) for row in used])
        self.encoded += len(used)
        # Every process has the same `whole`, and processes' gradients are averaged: hence times their number.
        loss = self._cost(scores, used, rows) * self.world / max(whole, 1e-9)
        return loss, {"loss": loss.detach()}

    def due(self, step: int) -> list[str]:
        """This process's prompts of a step."""
        return self._due(step, self.rank)

    def rows_of(self, prompts: Sequence[str]) -> NDArray[np.intp]:
        return np.array([row for prompt in prompts for row in self.rows[prompt]], np.intp)

    def _due(self, step: int, rank: int) -> list[str]:
        count = min(self.recipe.prompts, len(self.names))
        epoch, start = divmod(step, len(self.names) // count)
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self.names))
        return [self.names[i] for i in order[start * count : (start + 1) * count][rank :: self.world]]

    def _ratings(self) -> NDArray[np.float64]:
        if self.pairs.stars is None:
            raise DataError(
                "nobody rated these videos", "give a table with columns such as VQ_stars_A, or learn=preferences"
            )
        return self.pairs.stars[:, self.columns]

    def _used(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """The videos of these pairs, each once, in order."""
        return np.unique(np.stack([self.pairs.first[rows], self.pairs.second[rows]])).astype(np.intp)

    def _size(self, rows: NDArray[np.intp]) -> float:
        """How many votes, or ratings, these pairs have."""
        if self.stars is not None:
            return float(np.isfinite(self.stars[self._used(rows)]).sum())
        return float(self.pairs.weight[rows][:, self.columns].sum())

    def _cost(self, scores: Tensor, used: NDArray[np.intp], rows: NDArray[np.intp]) -> Tensor:
        """Summed over votes, or ratings, from the scores of the videos in use."""
        if self.stars is not None:
            stars = torch.from_numpy(self.stars[used]).to(scores)
            known = stars.isfinite()
            return rating(scores[known], stars[known]).sum()
        first, second = (np.searchsorted(used, side[rows]) for side in (self.pairs.first, self.pairs.second))
        return self._likelihood(scores[first] - scores[second], rows).sum()

    def _likelihood(self, lead: Tensor, rows: NDArray[np.intp]) -> Tensor:
        """(pairs, axes) negative log-likelihood of the votes, by their number."""
        shares = torch.from_numpy(self.pairs.shares[rows][:, self.columns]).to(lead)
        weight = torch.from_numpy(self.pairs.weight[rows][:, self.columns]).to(lead)
        if self.recipe.ties == "none":
            return weight * bradley_terry(lead, shares, self.recipe.margin)
        return weight * with_ties(lead, shares, self.learner.t, self.recipe.ties)

    def _seen(self, row: int, step: int) -> Any:
        """A video as this step shows it: a function of step and prompt."""
        plain = self.prepared(row)
        if not self.recipe.noised:
            return plain
        seed = content_hash([self.recipe.seed, step, self.pairs.videos[row].prompt])
        rng = torch.Generator().manual_seed(int(seed[:15], 16))
        if float(torch.rand((), generator=rng)) >= self.recipe.noised:
            return plain
        return self.learner.encoder.noised(plain, rng)

    def _prepared(self, row: int) -> Any:
        return self.learner.encoder.prepare(self.pairs.videos[row].answer())

    @torch.no_grad()
    def values(self, batch: int = 64) -> NDArray[np.float64]:
        """(videos, axes) logits of the videos of these pairs; nan for the others."""
        used = np.unique(np.concatenate([self.pairs.first, self.pairs.second]))
        values = np.full((len(self.pairs.videos), len(self.axes)), np.nan)
        for part in (used[i : i + batch] for i in range(0, len(used), batch)):
            values[part] = self.learner.encoder([self.prepared(row) for row in part]).double().cpu().numpy()
        return values

    @torch.no_grad()
    def held_out(self) -> float:
        """Mean negative log-likelihood of a vote on these pairs, or mean squared error of a rating."""
        every = np.arange(len(self.pairs))
        used = self._used(every)
        scores = torch.from_numpy(self.values()[used]).to(self.learner.tie)
        return float(self._cost(scores, used, every)) / max(self._size(every), 1e-9)


def train(pairs: PairSet, recipe: RewardRecipe, folder: Path, axes: tuple[Axis, ...] = ()) -> VideoReward:
    """Trains (or goes on training) in `folder`; writes `reward.safetensors` there. See `train_encoder`."""
    torch.manual_seed(recipe.seed)
    axes = axes or pairs.axes
    if recipe.face == "vlm":
        encoder: Encoder = vlm_encoder()(recipe.vlm, axes)
    else:
        start = Path(recipe.start) if recipe.start else SHIPPED
        encoder = ShapesEncoder.from_generator(start, axes, BLIND, recipe.layers)
    return train_encoder(encoder, pairs, recipe, folder)


def train_encoder(encoder: Encoder, pairs: PairSet, recipe: RewardRecipe, folder: Path) -> VideoReward:
    """The weights with the best validation likelihood, their calibration, and their accuracy on the test prompts.

    Resumes exactly: the loop's state and the list of validations lie in `folder`.
    """
    device = device_of(recipe.device)
    rank, world = launch.rank(), launch.world()
    learner = Learner(encoder.to(device), recipe)
    cut = split(pairs, recipe)
    axes = encoder.axes
    learning = Comparing(learner, cut["train"], axes, recipe, rank, world)
    if world > min(recipe.prompts, len(learning.names)):
        raise DataError(f"{world} processes for {recipe.prompts} prompts a step", "raise prompts")
    checking = Comparing(learner, cut["validation"], axes, recipe)
    told = recipe.model_dump(mode="json")
    identity = content_hash([told, pairs.digest])
    best = folder / "best.pt"
    validations = _Validations(folder / "validations.json", identity)
    watch = Journal(folder / JOURNAL) if rank == 0 else lambda _: None
    for upto in _stages(recipe):
        if len(validations.values) * recipe.every >= upto:
            continue  # done before a stop
        if validations.stale >= recipe.patience:
            break
        stage = recipe.fit.model_copy(update={"steps": upto, "cooldown": 0.0, "save_every": recipe.every})
        label = f"reward, {recipe.fit.steps} steps at most"
        fit(learner, learning, stage, folder / "state.pt", identity, label, watch)
        learner.eval()
        validations.add(checking.held_out(), learner, best if rank == 0 else None)
        learner.train()
    launch.wait()
    learner.load_state_dict(torch.load(best, weights_only=True, map_location=device))
    reward = _finished(learner.eval(), checking, Comparing(learner, cut["test"], axes, recipe), validations)
    reward.card |= {"recipe": told, "data": pairs.digest, "invalid_labels": pairs.invalid, "code": code_version()}
    reward.card |= {"split": {part: len(chosen) for part, chosen in cut.items()}}
    if rank == 0:
        reward.save(folder / "reward.safetensors")
    return reward


def _stages(recipe: RewardRecipe) -> Iterator[int]:
    yield from range(recipe.every, recipe.fit.steps, recipe.every)
    yield recipe.fit.steps


def _finished(learner: Learner, checking: Comparing, testing: Comparing, validations: "_Validations") -> VideoReward:
    values = checking.values()
    seen = values[~np.isnan(values).any(axis=1)]
    calibration = {
        axis: Calibration(float(column.mean()), float(column.std())) for axis, column in zip(testing.axes, seen.T)
    }
    facts = {
        "step": min((validations.best + 1) * checking.recipe.every, checking.recipe.fit.steps),
        "validations": validations.values,
        "t": dict(zip(testing.axes, learner.t.tolist())),
        "test_loss": testing.held_out(),
        "accuracy": {axis: one.model_dump(mode="json") for axis, one in accuracies(testing).items()},
    }
    return VideoReward(learner.encoder, calibration, facts)


def accuracies(testing: Comparing) -> dict[Axis, Estimate]:
    """By axis, over the pairs that people order; an axis on which they order none is not there."""
    values = testing.values()
    lead = values[testing.pairs.first] - values[testing.pairs.second]
    found = {}
    for place, axis in enumerate(testing.axes):
        label = testing.pairs.label(axis)
        judged = np.abs(label) == 1
        if judged.any():
            found[axis] = accuracy(label[judged].astype(int), lead[judged, place], testing.pairs.prompts[judged])
    return found


@dataclass
class _Validations:
    """Validation likelihoods so far, on disk, and the weights of the best of them."""

    file: Path
    identity: str

    def __post_init__(self) -> None:
        self.values: list[float] = []
        if self.file.exists():
            kept = json.loads(self.file.read_text())
            self.values = kept["values"] if kept["identity"] == self.identity else []

    @property
    def best(self) -> int:
        return int(np.argmin(self.values))

    @property
    def stale(self) -> int:
        """Validations since the best."""
        return len(self.values) - 1 - self.best if self.values else 0

    def add(self, value: float, learner: nn.Module, best: Path | None) -> None:
        """`best` is where the weights go if they are; None in the processes that only follow."""
        self.values.append(value)
        if best is None:
            return
        if self.stale == 0:
            with whole_file(best) as file:
                torch.save(learner.state_dict(), file)
        with whole_file(self.file) as file:
            file.write(json.dumps({"identity": self.identity, "values": self.values}).encode())
