"""One run of an online algorithm: a recipe and a generator in, an aligned generator out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignment.gallery import LOOKED, drawn, gallery_of
from alignment.lookout import LOOK, HackedError, Lookout
from alignment.online import Online
from alignment.plan import Plan, bytes_for_backward
from alignment.policy import InBatches, Learner, Led, Policy, trained
from alignment.recipe import ALGORITHMS, NrgRecipe, OnlineRecipe
from alignment.rollout import generator_of
from alignment.runs import ALARMED, ended
from alignment.student import Student, Written, student_of
from alignment.task import Task
from alignment.trackers import Trackers
from models.fit import Progress, fit
from models.gallery import SHOWN
from models.guide import Guide
from models.journal import JOURNAL, Journal
from models.launch import first_process
from palate.files import writing
from palate.records import content_hash
from palate.store import Store


@dataclass(frozen=True)
class Setup:
    """A run that is ready to begin, of which nothing has been written. Raises what `student_of` and `Task.of` raise."""

    kind: str
    recipe: OnlineRecipe
    student: Student
    learner: Learner
    objective: Online
    identity: str

    @classmethod
    def of(cls, kind: str, recipe: OnlineRecipe, weights: Path | None = None) -> "Setup":
        torch.manual_seed(recipe.seed)  # adapters begin at random
        student = student_of(recipe.generator, weights, recipe.device)
        task = Task.of(recipe.reward, recipe.prompts, student.fps)
        algorithm = ALGORITHMS[kind].algorithm(recipe)
        guide = _guide(student, recipe) if isinstance(recipe, NrgRecipe) else None
        learner = Learner(student.network, algorithm.reference or recipe.times.hold > 0, algorithm.behaviour, guide)
        policy = InBatches(student.policy, recipe.rollout.batch, student.precision)
        told = (recipe.rollout, recipe.updates, recipe.seed, recipe.times, recipe.passes)
        objective = Online(algorithm, policy, learner, task.ask, task.reward, *told)
        identity = content_hash([kind, recipe.model_dump(mode="json"), student.checkpoint, task.text])
        return cls(kind, recipe, student, learner, objective, identity)

    def plan(self) -> Plan:
        """Asks one prompt and evaluates one sample, so a pipeline that cannot be replayed is refused here."""
        told, rollout, algorithm = self.recipe, self.recipe.rollout, self.objective.algorithm
        learned = sum(p.numel() for p in trained(self.learner))
        taught = self.learner.guide.network if self.learner.guide else self.learner.network
        frozen = [p for p in self.learner.network.parameters() if not p.requires_grad]
        samples = rollout.samples
        drawn = samples * rollout.steps
        if algorithm.window and algorithm.window.branch:
            drawn -= (samples - rollout.prompts) * (algorithm.window.first + algorithm.window.last + 2) / 2
        rows = algorithm.trained_rows(rollout)
        at_once = min(rows // told.updates, rollout.batch or rows)
        copies = algorithm.reference + algorithm.behaviour
        held = 4 * rollout.prompts if told.times.hold else 0
        learning = rows * (3 + copies + (rows // told.updates > at_once)) + held
        stored = sum(part is not None for part in (self.learner.reference, self.learner.behaviour))
        kept = 4 * learned * (4 + stored + (told.fit.ema > 0))  # weights, gradients, Adam's two, copies, average
        return Plan(
            learned,
            sum(p.numel() for p in frozen),
            samples / told.updates,
            drawn + told.passes * learning,
            told.fit.steps // told.round_steps,
            sum(p.numel() * p.element_size() for p in frozen)
            + kept
            + at_once * bytes_for_backward(self.objective.policy, taught, *self.objective.ask(1, 0)),
        )

    def run(self, folder: Path) -> Written:
        """Trains (or goes on training) in `folder`, and writes what was learned there.

        Raises:
            StoppedError: the loss, or its gradient, is no longer a finite number.
            FileError: the folder cannot be written, or the disk is full.
            HackedError: the gold reward falls while what is optimised does not.
            NoRewardError, RewardServerError: there is nothing to learn from.
            OffPolicyError: the policy's ratio to itself is not 1.
            After each of them the last saved state is good, and the same run goes on from it.
        """
        with writing(folder / JOURNAL):
            trackers = Trackers(self.recipe.trackers if first_process() else (), folder, self._told())
        told, prompts = self.recipe, self.objective.ask(SHOWN, LOOKED)
        draw = drawn(self._policy, self.learner.network, prompts, told.rollout, told.seed)
        gallery = gallery_of(draw, prompts, told.show_every, told.fit.steps - 1, self.student.fps, folder, trackers)
        journal, lookout = Journal(folder / JOURNAL), self._lookout(folder)

        def watch(progress: Progress) -> None:
            for watcher in (journal, trackers) if first_process() else ():
                watcher(progress)
            gallery(progress)
            lookout(progress)

        try:
            fit(
                self.learner,
                self.objective,
                self.recipe.fit,
                folder / "state.pt",
                self.identity,
                f"align {self.kind}",
                watch,
            )
        finally:
            trackers.close()
        card = {"trained": ALGORITHMS[self.kind].about, "base": self.student.checkpoint, "recipe": self._told()}
        return self.student.write(folder, card, self.learner.guide)

    @property
    def _policy(self) -> Policy:
        """What is looked at: led, where a guide is taught."""
        return Led(self.objective.policy, self.learner.guide) if self.learner.guide else self.objective.policy

    def _told(self) -> dict[str, Any]:
        return self.recipe.model_dump(mode="json")

    def _lookout(self, folder: Path) -> Lookout:
        told = self.recipe.looks
        prompts, gold = list[str](), self.objective.reward
        if told.every:
            outside = Task.of(told.gold, told.file, self.student.fps)
            prompts, gold = outside.ask(told.prompts, LOOK), outside.reward
        return Lookout(
            told,
            prompts,
            gold,
            self.objective.reward,
            self._policy,
            self.learner,
            self.student,
            self.recipe.rollout,
            self.recipe.seed,
            folder,
        )


def _guide(student: Student, recipe: NrgRecipe) -> Guide:
    told, state = recipe.nrg, student.policy.noise(1, generator_of(0))[0]
    return Guide(student.network, state.numel(), told.strength, told.earliest, told.latest).to(student.device)


def reinforce(store: Store, setup: Setup, folder: Path) -> Written:
    """Runs it, and the first process adds the Run to the record, with its curves also where the alarm stops it."""

    def record(task: str, outputs: Sequence[str]) -> None:
        if first_process():
            store.add(ended(task, setup.recipe, (setup.student.checkpoint,), outputs, folder, store))

    try:
        written = setup.run(folder)
    except HackedError:
        record(f"{ALARMED}align {setup.kind}", ())
        raise
    record(f"align {setup.kind}", written.checkpoints)
    return written
