"""A grid of small pretraining runs, from which `palate scaling fit` learns how loss falls with size and data.

Every run sees each of its clips once, and all runs see the same ones in the same order: a run of 2,000 clips sees the
first 2,000 that a run of 8,000 sees. The loss that counts is measured afterwards, on clips, times and noise that are
the same for all runs and were never trained on. Clips are rendered once, into a file that all runs read.
"""

from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from scipy.stats import norm, t
from torch import Tensor
from tqdm import tqdm

from models import flow
from models.codec import PatchCodec, grid_of
from models.conditions import LONGEST, VOCABULARY, tokens
from models.dit import DitShape, VideoTransformer, Words
from models.fit import FitSettings, fit
from models.flavours import FLAVOURS, Flavour
from models.pretrain import CODEC_CLIPS, Families, fit_codec, training_clip
from models.weights import save_checkpoint
from palate.config import Settings
from palate.errors import DataError
from palate.records import Estimate, content_hash
from palate.store import Store
from palate.trained import Trained, recorded
from palate.version import code_version

HEAD = 16  # width of an attention head
CHUNK = 500  # clips rendered at once


class SweepRecipe(Settings):
    """What `palate scaling sweep` is told.

    `sizes` (width, depth) times `clips` make the grid. Sizes of one depth are predicted better than of several, since
    a deeper network does more with as many parameters. `target` (width, depth, clips) is the run to predict: what the
    grid has of more than 1 / `beyond` of its compute is left out.
    """

    name: str = "shapes"
    sizes: tuple[tuple[int, int], ...] = ((16, 2), (24, 2), (32, 2), (48, 2))
    clips: tuple[int, ...] = (1_000, 2_000, 4_000, 8_000)
    target: tuple[int, int, int] = (64, 2, 16_000)
    beyond: float = 4.0
    held_out: int = 1_000
    channels: int = 64
    families: Families = ("single", "events", "count")
    batch: int = 16
    lr: float = 2e-3
    muon_lr: float = 0.02
    shift: float = 3.0
    seed: int = 0


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    width: int
    depth: int
    clips: int
    channels: int

    @property
    def shape(self) -> DitShape:
        heads, grid = self.width // HEAD or 1, grid_of(FLAVOURS["shapes"].patch)
        return DitShape(self.width, self.depth, heads, self.channels, grid, VOCABULARY, LONGEST)

    @property
    def params(self) -> int:
        """N: the weights that every token meets, which are the blocks' matrices, the first layer and the last."""
        return 12 * self.depth * self.width**2 + 2 * self.channels * self.width

    @property
    def tokens(self) -> int:
        """D: patches and words, of all clips."""
        return self.clips * self._sequence

    @property
    def flops(self) -> float:
        """C = 6 N D + 12 depth width sequence D: the matrices and the attention, forward and backward.

        As in PaLM (arXiv:2204.02311, appendix B). Left out: what is done once a clip.
        """
        return (6.0 * self.params + 12 * self.depth * self.width * self._sequence) * self.tokens

    @property
    def _sequence(self) -> int:
        return self.shape.tokens + LONGEST


def cells(recipe: SweepRecipe) -> list[Cell]:
    """The runs to do, the longest first, so that processes end together.

    Raises:
        DataError: a run shorter than a batch, or a target that leaves nothing of the grid.
    """
    target = Cell(*recipe.target, recipe.channels)
    grid = {Cell(*size, clips, recipe.channels) for size in recipe.sizes for clips in recipe.clips}
    grid = {one for one in grid if one.flops * recipe.beyond <= target.flops}
    if not grid:
        raise DataError("no run of the grid is small enough beside the target", "choose a larger target")
    if min(one.clips for one in grid) < recipe.batch:
        raise DataError(f"a run of less than a batch of {recipe.batch} clips", "give more clips, or a smaller batch")
    return sorted(grid | {target}, key=lambda one: (one.flops, one.width), reverse=True)


def sweep(recipe: SweepRecipe, folder: Path, store: Store, processes: int) -> None:
    """Trains what the store has no run of, and adds each run as it ends; states of unfinished runs are in `folder`."""
    done = {one.identity for one, _ in recorded(store, recipe.name).values()}
    wanted = cells(recipe)
    due = [cell for cell in wanted if _identity(recipe, cell) not in done]
    if not due:
        return
    # spawn: a forked child of a process that has used torch may hang in its thread pools
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_start) as pool:
        clips = _rendered(recipe, max(one.clips for one in wanted), folder, pool)
        with tqdm(total=sum(map(_work, wanted)), desc="sweep", unit_scale=True, mininterval=1.0) as progress:
            progress.update(sum(_work(one) for one in wanted if one not in due))
            running = {pool.submit(train, recipe, cell, clips, folder): cell for cell in due}
            for future in as_completed(running):
                cell, loss = running[future], future.result()
                store.add(_trained(recipe, cell).records(loss, code_version(), recipe.seed))
                progress.update(_work(cell))


def train(recipe: SweepRecipe, cell: Cell, clips: Path, folder: Path) -> Estimate:
    """One run, from its state where there is one; returns its loss on held-out clips."""
    words, latents = _read(clips, slice(recipe.held_out, recipe.held_out + cell.clips))
    torch.manual_seed(recipe.seed)
    network = VideoTransformer(cell.shape)

    def objective(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        due = slice(step * recipe.batch, (step + 1) * recipe.batch)
        x0 = latents[due].float()
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        times = flow.draw_times(len(x0), recipe.shift, rng)
        return _errors(network, words[due], x0, times, rng).mean(), {}

    steps = cell.clips // recipe.batch
    settings = FitSettings(
        steps=steps, lr=recipe.lr, muon_lr=recipe.muon_lr, warmup=steps // 10, cooldown=0.5, optimiser="muon"
    )
    state = folder / f"{cell.width}x{cell.depth}-{cell.clips}.pt"
    fit(network, objective, settings, state, _identity(recipe, cell), "")
    return held_out_loss(network.eval(), *_read(clips, slice(0, recipe.held_out)), recipe)


@torch.no_grad()
def held_out_loss(network: VideoTransformer, words: Words, latents: Tensor, recipe: SweepRecipe) -> Estimate:
    """Mean error over clips, the i-th at the i-th of evenly spread quantiles of the training times.

    The interval is over clips. They are the same for all runs, so two runs' losses differ by less than it suggests.
    """
    count = len(latents)
    even = torch.from_numpy(norm.ppf((np.arange(count) + 0.5) / count)).float()
    times = flow.shifted(torch.sigmoid(even), recipe.shift)
    rng = torch.Generator().manual_seed(recipe.seed)
    errors = torch.cat(
        [
            _errors(network, words[i : i + 100], latents[i : i + 100].float(), times[i : i + 100], rng)
            for i in range(0, count, 100)
        ]
    ).double()
    mean = float(errors.mean())
    half = float(t.ppf(0.975, count - 1) * errors.std() / count**0.5)
    return Estimate(value=mean, low=mean - half, high=mean + half, n=count, method="mean over held-out clips, t")


def _errors(network: VideoTransformer, words: Words, x0: Tensor, times: Tensor, rng: torch.Generator) -> Tensor:
    """The flow-matching loss of each clip: the squared error of the velocity that the predicted x0 stands for."""
    eps = torch.randn(x0.shape, generator=rng)
    return flow.velocity_error(network(flow.noised(x0, eps, times), times, words), x0, times)


def _trained(recipe: SweepRecipe, cell: Cell) -> Trained:
    return Trained(
        sweep=recipe.name,
        identity=_identity(recipe, cell),
        params=cell.params,
        tokens=cell.tokens,
        flops=cell.flops,
        settings={**_of_a_run(recipe), "width": cell.width, "depth": cell.depth, "clips": cell.clips},
    )


def _of_a_run(recipe: SweepRecipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"name", "sizes", "clips", "target", "beyond"})


def _identity(recipe: SweepRecipe, cell: Cell) -> str:
    return content_hash([_of_a_run(recipe), cell.width, cell.depth, cell.clips])


def _work(cell: Cell) -> int:
    """About how long a run takes: networks as narrow as these wait for memory, not for multiplications."""
    return cell.clips * cell.depth * cell.width


def _start() -> None:
    torch.set_num_threads(1)  # threads of processes that share cores fight


def _rendered(recipe: SweepRecipe, clips: int, folder: Path, pool: ProcessPoolExecutor) -> Path:
    """The file of words and latents: first the held-out clips, then `clips` to train on."""
    told = content_hash([recipe.held_out, clips, recipe.channels, recipe.families, recipe.seed])
    file = folder / f"clips-{told[:12]}.safetensors"
    if not file.exists():
        shipped = FLAVOURS["shapes"]
        flavour = Flavour(shipped.width, shipped.depth, shipped.heads, shipped.patch, recipe.channels)
        codec = fit_codec(flavour, recipe.seed, recipe.families)
        # Below zero are the codec's clips, and below those the held-out ones.
        indices = [*(-1 - CODEC_CLIPS - i for i in range(recipe.held_out)), *range(clips)]
        chunks = [indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK)]
        drawn = pool.map(_draw, *zip(*((recipe, codec, chunk) for chunk in chunks)))
        words, latents = zip(*tqdm(drawn, desc="render", total=len(chunks), mininterval=1.0))
        columns = {"words": np.concatenate(words), "latents": np.concatenate(latents)}
        save_checkpoint(file, {name: torch.from_numpy(one) for name, one in columns.items()}, {})
    return file


def _draw(recipe: SweepRecipe, codec: PatchCodec, indices: list[int]) -> tuple[NDArray[np.int16], NDArray[np.float16]]:
    # As arrays: tensors would cross by shared memory, of which a container has little.
    captions, clips = zip(*(training_clip(recipe.seed, index, recipe.families) for index in indices))
    latents = codec.encode(torch.from_numpy(np.stack(clips)))
    return tokens(captions).numpy().astype(np.int16), latents.numpy().astype(np.float16)


def _read(file: Path, rows: slice) -> tuple[Words, Tensor]:
    with safe_open(file, framework="pt") as opened:
        return opened.get_slice("words")[rows].long(), opened.get_slice("latents")[rows]
