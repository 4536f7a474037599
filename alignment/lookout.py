"""Looks at a run from outside: the same prompts answered every so often, and the hacking alarm (rewards/alarm.py).

What was scored at each look lies in `looks.csv`, which `palate reward alarm` reads too, and the weights of each look in
`looks/N`, so that a run that went wrong can go back to where it was best.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator

from alignment.policy import Learner, Policy
from alignment.rollout import Drawing, RolloutSettings, generator_of
from alignment.scoring import Reward, Scoring
from alignment.student import Student
from alignment.task import RewardSettings
from alignment.verifier import VerifierSettings
from models.fit import Progress
from models.launch import first_process, gathered, rank, wait, world
from palate.config import Settings
from palate.errors import PalateError
from palate.files import whole_file
from palate.records import Curve, Run
from rewards.alarm import LEAST_PROMPTS, AlarmSettings, HackingAlarm, read_looks

LOOKS = "looks.csv"
LOOK = 2**31  # a number that no round has, so that looks have chances of their own
BLOCK = 64  # answers drawn at a time where the recipe does not say: a whole look at once takes a third longer on a CPU


class HackedError(PalateError):
    """A run whose gold reward falls."""


class LookSettings(Settings):
    """Every `every` optimiser steps (0: never) `prompts` prompts are answered, once each, and scored by both rewards.

    `gold` is a reward that is not learned from, and `file` has prompts that are not; by default the shapes world's
    strict check, and captions of its train split, since held-out ones are for examinations.
    """

    every: int = Field(default=0, ge=0)
    prompts: int = Field(default=64, ge=LEAST_PROMPTS)
    file: str = ""
    gold: RewardSettings = VerifierSettings(strict=1.0, fraction=0.0)
    alarm: AlarmSettings = AlarmSettings()

    @model_validator(mode="after")
    def _shared(self) -> "LookSettings":
        if self.every and self.prompts % world():
            raise ValueError(f"{self.prompts} prompts are no multiple of {world()} processes")
        return self


@dataclass
class Lookout:
    """Told of every step (models/fit.py); raises HackedError when the alarm rings."""

    settings: LookSettings
    prompts: list[str]
    gold: Reward
    proxy: Reward
    policy: Policy
    learner: Learner
    student: Student
    rollouts: RolloutSettings
    seed: int
    folder: Path

    def __call__(self, progress: Progress) -> None:
        if not self.settings.every or progress.step % self.settings.every:
            return
        look = progress.step // self.settings.every
        gold, proxy = self._scores()
        table = self.folder / LOOKS
        self.student.write(self.folder / "looks" / str(look), {"look": look, "step": progress.step}, self.learner.guide)
        if first_process():
            rows = pd.read_csv(table) if table.exists() else pd.DataFrame(columns=["look", "prompt", "gold", "proxy"])
            new = pd.DataFrame({"look": look, "prompt": self.prompts, "gold": gold, "proxy": proxy})
            kept = rows[rows["look"] < look]  # looks after a kill are taken again
            with whole_file(table) as file:
                (pd.concat([kept, new]) if len(kept) else new).to_csv(file, index=False)
        wait()
        self._alarm(table, look)

    def _alarm(self, table: Path, look: int) -> None:
        watch = HackingAlarm(self.settings.alarm)
        for both in read_looks(table):
            watch.look(*both)
        last = watch.history[-1]
        if last.state != "calm":
            lost = (
                f"{last.lost.value:.3f} [{last.lost.low:.3f}, {last.lost.high:.3f}]"
                if last.lost
                else "more than chance"
            )
            raise HackedError(
                f"{last.state} at look {look}: the gold reward has fallen by {lost} since look {last.stop}",
                f"take {self.folder / 'looks' / str(last.stop)}, or begin anew with a KL or a smaller fit.lr",
            )

    def _scores(self) -> tuple[list[float], list[float]]:
        """By gold and by the proxy, of every prompt; each process answers its share."""
        own = list(range(len(self.prompts)))[rank() :: world()]
        prompts = [self.prompts[place] for place in own]
        chances = [generator_of(self.seed, LOOK, place) for place in own]
        conditions = self.policy.conditions(prompts)
        alone = self.rollouts.model_copy(update={"group": 1, "batch": self.rollouts.batch or BLOCK})
        clips: list[torch.Tensor] = []
        with Scoring(self.proxy) as scoring, torch.no_grad():
            drawing = Drawing(self.policy, self.learner.network, alone, None, alone.steps)
            drawing.blocks(prompts, conditions, chances, scoring, clips.append)
            proxy = scoring.rewards()
        gold = torch.from_numpy(np.asarray(self.gold(prompts, torch.cat(clips).cpu().numpy()), np.float32))
        both = gathered(torch.stack([gold, proxy]).to(self.student.device)).cpu()  # (processes, 2, share)
        told = both.permute(1, 2, 0).reshape(2, -1)
        return told[0].tolist(), told[1].tolist()


def look_curves(folder: Path, run: Run, every: int) -> list[Curve]:
    """The mean of either reward at each look, over the prompts that both scored, by the step it was taken at."""
    table = folder / LOOKS
    if not every or not table.exists():
        return []
    look, *rewards = pd.read_csv(table).loc[:, ["look", "gold", "proxy"]].dropna().to_numpy(float).T
    looks, place = np.unique(look, return_inverse=True)
    steps = tuple(int(one) * every for one in looks)
    return [
        Curve(
            run=run.id,
            metric=f"look_{name}",
            steps=steps,
            readings=tuple((np.bincount(place, values) / np.bincount(place)).tolist()),
        )
        for name, values in zip(("gold", "proxy"), rewards)
        if steps
    ]
