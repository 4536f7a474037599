"""One alignment run: preferences of the record and a base checkpoint in, an aligned checkpoint out."""

from collections.abc import Sequence
from pathlib import Path

import torch

from alignment.algorithms.dpo import DpoSettings, FlowDpo
from alignment.pairs import read_pairs
from models.fit import FitSettings, Progress, fit
from models.gallery import SHOWN, gallery_of, glimpses
from models.generator import Generator
from models.journal import JOURNAL, Journal, curves
from models.weights import device_of
from palate.config import Settings
from palate.digest import digest
from palate.records import Case, Preference, Run, content_hash
from palate.store import Store
from palate.version import code_version


class DpoRecipe(Settings):
    """What `palate align dpo` is told."""

    seed: int = 0
    device: str = "cpu"
    dpo: DpoSettings = DpoSettings()
    show_every: int = 50  # steps between looks at four prompts (models/gallery.py), of those watched; 0 keeps none
    fit: FitSettings = FitSettings(steps=240, lr=4e-4, warmup=20, ema=0.95, save_every=50)


def align_dpo(
    store: Store, preferences: Sequence[Preference], base: Path, recipe: DpoRecipe, folder: Path
) -> Generator:
    """Trains (or goes on training) in `folder`; writes `generator.safetensors` there and a Run to the record."""
    device = device_of(recipe.device)
    generator, reference = Generator.load(base, device), Generator.load(base, device)
    reference.network.requires_grad_(False)
    pairs = read_pairs(store, preferences, generator.codec)
    torch.manual_seed(recipe.seed)
    generator.network.train()
    objective = FlowDpo(generator.network, reference.network, pairs, recipe.dpo, recipe.seed)
    told = recipe.model_dump(mode="json")
    learned = digest(one.id for one in preferences)
    identity = content_hash([recipe.model_dump(mode="json", exclude={"show_every"}), reference.checkpoint, learned])
    journal = Journal(folder / JOURNAL)
    shown = store.select(Case, id=sorted({one.case for one in preferences})[:SHOWN])
    gallery = gallery_of(generator, [one.prompt for one in shown], folder, recipe.show_every, recipe.fit.steps - 1)

    def watch(progress: Progress) -> None:
        journal(progress)
        gallery(progress)

    fit(generator.network, objective, recipe.fit, folder / "state.pt", identity, "align dpo", watch)
    aligned = Generator(
        generator.network.eval(),
        generator.codec,
        {
            "trained": f"Flow-DPO on {len(preferences)} preferences ({learned[:12]})",
            "base": reference.checkpoint,
            "recipe": told,
        },
    )
    aligned.save(folder / "generator.safetensors")
    parents = (reference.checkpoint, *sorted(one.id for one in preferences))
    run = Run(
        task="align dpo",
        recipe=told,
        code=code_version(),
        seed=recipe.seed,
        parents=parents,
        outputs=(aligned.checkpoint,),
    )
    store.add([run, *curves(folder / JOURNAL, run), *glimpses(folder, run, store.media)])
    return aligned


def evaluations(recipe: DpoRecipe) -> int:
    """Network evaluations of a run, a backward pass counted as two: 8 for a pair, and 4 to hold its winner."""
    return recipe.fit.steps * recipe.dpo.batch * 12
