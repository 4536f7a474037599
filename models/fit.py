"""The one training loop. It knows nothing of what is learned: an objective hands it a loss for each step.

A step is a pure function of (weights, optimiser state, step number): the objective draws its data and noise from the
step number, so models/state.py saves all there is, and a run that was killed goes on bit for bit (on a CPU).

Under torchrun each process takes a step of its own, gradients are averaged, and what is reported is the mean.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from models import launch
from models.muon import Muon
from models.state import Optimisers, resume, save, whole
from palate.config import Settings
from palate.errors import PalateError


class StoppedError(PalateError, FloatingPointError):
    """The loss of a run, or its gradient, is no longer a finite number."""


Loss = Callable[[int], tuple[Tensor, dict[str, Tensor]]]


class FitSettings(Settings):
    """`warmup` steps rise to `lr`; the last `cooldown` share of the steps falls to zero. `clip` is the longest that a
    gradient may be; `ema` 0 keeps no average."""

    steps: int = Field(ge=1)
    lr: float = Field(gt=0)
    warmup: int = Field(default=50, ge=0)
    cooldown: float = Field(default=0.2, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    optimiser: Literal["adamw", "muon"] = "adamw"
    muon_lr: float = Field(default=0.02, gt=0)
    save_every: int = Field(default=500, ge=1)
    watch_every: int = Field(default=50, ge=1)


@dataclass(frozen=True)
class Progress:
    step: int
    loss: float
    metrics: dict[str, float]


def fit(
    model: nn.Module,
    loss: Loss,
    settings: FitSettings,
    state: Path,
    identity: str,
    label: str,
    watch: Callable[[Progress], None] = lambda _: None,
) -> nn.Module:
    """Trains `model` in place, leaving its averaged weights in it where `ema` is set; resumes from `state`.

    `identity` names everything the run depends on, such as a hash of recipe and data: a state of another identity is
    refused rather than continued. `watch` is told of every `watch_every`th step and the last. Without a `label` there
    is no progress bar.

    Raises CheckpointError for a state of another run, and StoppedError naming the step when the loss or its gradient is
    not a finite number (the last saved state stays good).
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    average = _Average(trained, settings.ema)
    optimisers = _optimisers(model, settings)
    start = resume(state, identity, model, average.weights, optimisers)
    quiet = not label or not launch.first_process()
    bar = {"desc": label, "initial": start, "total": settings.steps, "mininterval": 1.0, "disable": quiet}
    for step in tqdm(range(start, settings.steps), **bar):
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * _schedule(step, settings)
            optimiser.zero_grad(set_to_none=True)
        value, metrics = loss(step)
        value.backward()
        launch.average_gradients(trained)
        length = nn.utils.clip_grad_norm_(trained, settings.clip)
        last = step == settings.steps - 1
        saves = (step + 1) % settings.save_every == 0 or last
        watches = step % settings.watch_every == 0 or last
        seen = Progress(step, *_means(value, metrics)) if watches or saves else None
        if seen:  # a saved state is a good one: neither its loss nor what moved its weights was infinite
            _refuse_infinite({"loss": seen.loss, "gradient": float(whole(length))}, step, state, settings)
        for optimiser in optimisers:
            optimiser.step()
        average.update(step)
        if seen:
            launch.check_same(trained, step)
        if seen and watches:
            watch(seen)
        if saves:
            save(state, identity, step + 1, model, average.weights, optimisers)
    average.leave()
    return model


def _refuse_infinite(found: dict[str, float], step: int, state: Path, settings: FitSettings) -> None:
    for name, size in found.items():
        if not math.isfinite(size):
            raise StoppedError(
                f"the {name} of step {step} is not a finite number; {state} holds the last good state",
                f"begin anew in another folder with a smaller fit.lr (now {settings.lr:g})",
            )


def _means(loss: Tensor, metrics: dict[str, Tensor]) -> tuple[float, dict[str, float]]:
    """Over processes; of a metric over those that have it."""
    told = launch.everyones((float(loss.detach()), {name: float(value) for name, value in metrics.items()}))
    names = dict.fromkeys(name for _, known in told for name in known)
    means = {name: fmean(known[name] for _, known in told if name in known) for name in names}
    return fmean(loss for loss, _ in told), means


def _schedule(step: int, settings: FitSettings) -> float:
    rise = min(1.0, (step + 1) / max(settings.warmup, 1))
    fall = (settings.steps - step) / max(settings.cooldown * settings.steps, 1.0)
    return min(rise, fall, 1.0)


def _optimisers(model: nn.Module, settings: FitSettings) -> Optimisers:
    """AdamW; with `muon`, the layers' matrices go to Muon instead (embeddings, tables and the head stay)."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in trained.items() if settings.optimiser == "muon" and p.ndim == 2 and "blocks." in name]
    rest = [p for p in trained.values() if not any(p is matrix for matrix in matrices)]
    chosen: Optimisers = []
    if rest:
        chosen.append(torch.optim.AdamW(rest, lr=settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay))
    if matrices:
        chosen.append(Muon(matrices, lr=settings.muon_lr, weight_decay=settings.weight_decay))
    for optimiser in chosen:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return chosen


class _Average:
    """Exponential moving average of trained weights, warmed up so that early steps do not weigh for ever."""

    def __init__(self, trained: list[nn.Parameter], decay: float) -> None:
        self.decay, self.trained = decay, trained
        self.weights = [p.detach().clone() for p in trained] if decay else []

    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for kept, now in zip(self.weights, self.trained):
            kept.lerp_(now.detach(), 1 - decay)

    def leave(self) -> None:
        """The average in place of the weights."""
        for kept, now in zip(self.weights, self.trained):
            now.data.copy_(kept)
