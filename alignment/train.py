"""One run of offline Flow-DPO: preferences and a generator in, an aligned generator out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field

from alignment.algorithms.dpo import DpoSettings, FlowDpo
from alignment.gallery import drawn, gallery_of
from alignment.pairs import Encoded, Held, Latents, Pairs, Preferred
from alignment.plan import Plan, bytes_for_backward
from alignment.policy import InBatches, Learner, trained
from alignment.rollout import RolloutSettings
from alignment.runs import ended
from alignment.student import GeneratorSettings, ShapesSettings, Student, Written, student_of
from alignment.trackers import Trackers
from annotation.preferences import Policy as Agreement
from models.fit import FitSettings, Progress, fit
from models.gallery import SHOWN
from models.journal import JOURNAL, Journal
from models.launch import first_process
from palate.config import Settings
from palate.files import writing
from palate.records import content_hash
from palate.store import Store


class DpoRecipe(Settings):
    """What `palate align dpo` is told.

    Attributes:
        rows: rows that go through the network at a time; 0 is all of a step's.
        table: how the labels of a table become preferences. A study's are preferences already.
        trackers: accelerate's names of what metrics and samples go to, beside the run's folder.
        show_every: optimiser steps between looks at `SHOWN` of the prompts (models/gallery.py), of the steps that are
            watched; 0 keeps none.
    """

    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    generator: GeneratorSettings = ShapesSettings()
    rows: int = Field(default=0, ge=0)
    table: Agreement = Agreement()
    dpo: DpoSettings = DpoSettings()
    trackers: tuple[str, ...] = ()
    show_every: int = Field(default=50, ge=0)
    fit: FitSettings = FitSettings(steps=240, lr=4e-4, warmup=20, ema=0.95, save_every=50)


@dataclass(frozen=True)
class DpoSetup:
    """A run that is ready to begin, of which nothing has been written. Raises what `student_of` raises."""

    recipe: DpoRecipe
    preferred: Preferred
    student: Student
    learner: Learner
    policy: InBatches

    @classmethod
    def of(cls, recipe: DpoRecipe, preferred: Preferred, weights: Path | None = None) -> "DpoSetup":
        torch.manual_seed(recipe.seed)  # adapters begin at random
        student = student_of(recipe.generator, weights, recipe.device)
        learner = Learner(student.network, reference=True)
        return cls(recipe, preferred, student, learner, InBatches(student.policy, recipe.rows, student.precision))

    @property
    def identity(self) -> str:
        return content_hash([self.recipe.model_dump(mode="json"), self.student.checkpoint, self.preferred.digest])

    def plan(self) -> Plan:
        """Asks one prompt and evaluates one sample, so a pipeline that cannot be replayed is refused here."""
        told, rows = self.recipe, 2 * self.recipe.dpo.batch
        policy, network = self.policy, self.learner.network
        learned = sum(p.numel() for p in trained(network))
        frozen = [p for p in network.parameters() if not p.requires_grad]
        at_once = min(rows, told.rows or rows)
        kept = 4 * learned * (5 + (told.fit.ema > 0))  # weights, gradients, Adam's two, the reference's, the average
        return Plan(
            learned,
            sum(p.numel() for p in frozen),
            rows,
            rows * (4 + (rows > at_once)) + 4 * (rows // 2) * (told.dpo.hold > 0),
            told.fit.steps,
            sum(p.numel() * p.element_size() for p in frozen)
            + kept
            + at_once * bytes_for_backward(policy, network, self.preferred.pairs[0].prompt),
        )

    def objective(self, cache: Path) -> FlowDpo:
        """Encodes the prompts, and those videos whose latents are not in the folder `cache` yet."""
        torch.manual_seed(self.recipe.seed)
        student = self.student

        def encoded(files: Sequence[Path]) -> Latents:
            if student.encoder is None:
                return Held(files, student.encode)
            return Encoded(files, cache, student.encoder, student.encode)

        pairs = Pairs.of(self.preferred.pairs, self.policy, encoded)
        return FlowDpo(self.policy, self.learner, pairs, self.recipe.dpo, self.recipe.seed)

    def run(self, folder: Path, cache: Path) -> Written:
        """Trains (or goes on training) in `folder`, and writes what was learned there. Raises StoppedError and
        FileError, after which the last saved state is good."""
        objective, told = self.objective(cache), self.recipe.model_dump(mode="json")
        with writing(folder / JOURNAL):
            trackers = Trackers(self.recipe.trackers if first_process() else (), folder, told)
        journal = Journal(folder / JOURNAL)
        prompts, seed = sorted({one.prompt for one in self.preferred.pairs})[:SHOWN], self.recipe.seed
        draw = drawn(self.policy, self.learner.network, prompts, RolloutSettings(), seed)
        every, last = self.recipe.show_every, self.recipe.fit.steps - 1
        gallery = gallery_of(draw, prompts, every, last, self.student.fps, folder, trackers)

        def watch(progress: Progress) -> None:
            for watcher in (journal, trackers) if first_process() else ():
                watcher(progress)
            gallery(progress)

        try:
            fit(self.learner, objective, self.recipe.fit, folder / "state.pt", self.identity, "align dpo", watch)
        finally:
            trackers.close()
        about = f"Flow-DPO on {len(self.preferred.pairs)} preferences ({self.preferred.digest[:12]})"
        return self.student.write(folder, {"trained": about, "base": self.student.checkpoint, "recipe": told}, None)


def align_dpo(store: Store, setup: DpoSetup, folder: Path) -> Written:
    """Runs it, and the first process adds the Run to the record. Latents are kept beside the record's media."""
    written = setup.run(folder, store.media.folder.with_name("latents"))
    if first_process():
        parents = (setup.student.checkpoint, *setup.preferred.sources)
        store.add(ended("align dpo", setup.recipe, parents, written.checkpoints, folder, store))
    return written
