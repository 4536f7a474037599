"""One run of an online algorithm: a recipe and a base checkpoint in, an aligned checkpoint out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator

from alignment.algorithms.awm import Awm, AwmSettings
from alignment.algorithms.grpo import Grpo, GrpoSettings
from alignment.algorithms.nft import Nft, NftSettings
from alignment.algorithms.online_dpo import OnlineDpo, OnlineDpoSettings
from alignment.algorithms.rwr import Rwr, RwrSettings
from alignment.algorithms.sft import Sft, SftSettings
from alignment.journal import Journal
from alignment.online import Algorithm, Online
from alignment.policy import Learner, ShapesPolicy
from alignment.rollout import RolloutSettings
from alignment.verifier import Verifier, VerifierSettings
from models.fit import FitSettings, fit
from models.generator import Generator
from models.weights import device_of
from palate.config import Settings
from palate.records import Run, content_hash
from palate.store import Store
from palate.version import code_version


class OnlineRecipe(Settings):
    """What every online command is told. A round is one rollout and `updates` optimiser steps on it."""

    seed: int = 0
    device: str = "cpu"
    updates: int = Field(default=1, ge=1)
    rollout: RolloutSettings = RolloutSettings()
    reward: VerifierSettings = VerifierSettings()
    fit: FitSettings = FitSettings(steps=200, lr=1e-4, warmup=5, cooldown=0.1, ema=0.9, save_every=10, watch_every=1)

    @model_validator(mode="after")
    def _whole_rounds(self) -> "OnlineRecipe":
        if self.updates > self.rollout.prompts:
            raise ValueError(f"{self.updates} updates need as many prompts a round, not {self.rollout.prompts}")
        if self.fit.save_every % self.updates or self.fit.steps % self.updates:
            raise ValueError(
                f"fit.steps and fit.save_every must be multiples of updates ({self.updates}): rounds are saved whole"
            )
        return self


class GrpoRecipe(OnlineRecipe):
    grpo: GrpoSettings = GrpoSettings()

    @model_validator(mode="after")
    def _window_fits(self) -> "GrpoRecipe":
        window, steps = self.grpo.window, self.rollout.steps
        if window.last + window.width > steps - 1:
            raise ValueError(
                f"a window of {window.width} from step {window.last} does not fit in {steps} denoise steps, "
                "of which the last is never random"
            )
        return self


class NftRecipe(OnlineRecipe):
    nft: NftSettings = NftSettings()


class AwmRecipe(OnlineRecipe):
    awm: AwmSettings = AwmSettings()


class RwrRecipe(OnlineRecipe):
    rwr: RwrSettings = RwrSettings()


class SftRecipe(OnlineRecipe):
    sft: SftSettings = SftSettings()


class OnlineDpoRecipe(OnlineRecipe):
    dpo: OnlineDpoSettings = OnlineDpoSettings()


@dataclass(frozen=True)
class Kind:
    """A command's recipe, and the algorithm that it tells."""

    about: str
    recipe: type[OnlineRecipe]
    algorithm: Callable[[Any], Algorithm]


ALGORITHMS: dict[str, Kind] = {
    "grpo": Kind("Flow-GRPO", GrpoRecipe, lambda told: Grpo(told.grpo)),
    "nft": Kind("DiffusionNFT", NftRecipe, lambda told: Nft(told.nft)),
    "awm": Kind("advantage-weighted matching", AwmRecipe, lambda told: Awm(told.awm)),
    "rwr": Kind("Flow-RWR", RwrRecipe, lambda told: Rwr(told.rwr)),
    "sft": Kind("RAFT", SftRecipe, lambda told: Sft(told.sft)),
    "online-dpo": Kind("online Flow-DPO", OnlineDpoRecipe, lambda told: OnlineDpo(told.dpo)),
}


@dataclass(frozen=True)
class Plan:
    """What a run would cost. An evaluation is one sample through the network; a backward pass counts as two."""

    parameters: int
    samples_a_step: float
    evaluations_a_round: float
    rounds: int
    bytes: int

    def text(self) -> str:
        return (
            f"{self.parameters:,} parameters learn; {self.samples_a_step:g} samples a step; {self.rounds} rounds of "
            f"{self.evaluations_a_round:,.0f} evaluations; about {self.bytes / 2**20:,.0f} MiB for weights, optimiser, "
            "copies and the largest update"
        )


@dataclass(frozen=True)
class Setup:
    """A run that is ready to begin. Raises what `Generator.load` raises, and nothing has been written."""

    kind: str
    recipe: OnlineRecipe
    generator: Generator
    learner: Learner
    objective: Online

    @classmethod
    def of(cls, kind: str, recipe: OnlineRecipe, base: Path) -> "Setup":
        generator = Generator.load(base, device_of(recipe.device))
        algorithm = ALGORITHMS[kind].algorithm(recipe)
        learner = Learner(generator.network.train(), algorithm.reference, algorithm.behaviour)
        verifier = Verifier(recipe.reward)
        objective = Online(
            algorithm,
            ShapesPolicy(generator),
            learner,
            verifier.ask,
            verifier,
            recipe.rollout,
            recipe.updates,
            recipe.seed,
        )
        return cls(kind, recipe, generator, learner, objective)

    def plan(self) -> Plan:
        told, rollout, algorithm = self.recipe, self.recipe.rollout, self.objective.algorithm
        size = sum(p.numel() for p in self.generator.network.parameters())
        samples = rollout.prompts * rollout.group
        drawn = samples * rollout.steps
        if algorithm.window and algorithm.window.branch:
            drawn -= (samples - rollout.prompts) * (algorithm.window.first + algorithm.window.last + 2) / 2
        rows = algorithm.trained_rows(rollout)
        copies = algorithm.reference + algorithm.behaviour
        kept = (
            4 * size * (4 + copies + (1 + copies) * (told.fit.ema > 0))
        )  # weights, gradients, Adam's two, copies, EMA
        return Plan(
            size,
            samples / told.updates,
            drawn + rows * (3 + copies),
            told.fit.steps // told.updates,
            kept + rows // told.updates * self._bytes_for_backward(),
        )

    def _bytes_for_backward(self) -> int:
        """Measured on one sample: what a forward pass keeps beside the weights."""
        policy, network = self.objective.policy, self.learner.network
        weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
        kept: dict[int, int] = {}

        def note(saved: torch.Tensor) -> torch.Tensor:
            storage = saved.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return saved

        rng = torch.Generator(self.generator.device).manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
            words = policy.conditions(self.objective.ask(1, 0))
            policy.velocity(network, policy.noise(1, rng), torch.ones(1, device=rng.device), words)
        return sum(kept.values())

    def run(self, folder: Path) -> Generator:
        """Trains (or goes on training) in `folder`, and writes `generator.safetensors` there.

        Raises:
            StoppedError: the loss is no longer a number; says from where the run can go on.
        """
        base, told = self.generator.checkpoint, self.recipe.model_dump(mode="json")
        identity = content_hash([self.kind, told, base])
        state = folder / "state.pt"
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(self.recipe.seed)
        fit(
            self.learner,
            self.objective,
            self.recipe.fit,
            state,
            identity,
            f"align {self.kind}",
            Journal(folder / "metrics.jsonl"),
        )
        card = {"trained": f"{ALGORITHMS[self.kind].about} against the verifier", "base": base, "recipe": told}
        aligned = Generator(self.generator.network.eval(), self.generator.codec, card)
        aligned.save(folder / "generator.safetensors")
        return aligned


def reinforce(store: Store, setup: Setup, folder: Path) -> Generator:
    """Runs it, and adds the Run to the record."""
    base = setup.generator.checkpoint
    aligned = setup.run(folder)
    store.add(
        [
            Run(
                task=f"align {setup.kind}",
                recipe=setup.recipe.model_dump(mode="json"),
                code=code_version(),
                seed=setup.recipe.seed,
                parents=(base,),
                outputs=(aligned.checkpoint,),
            )
        ]
    )
    return aligned
