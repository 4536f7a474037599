"""Sweeps of small runs: what they cost, that they can be stopped, and that the record has what a fit needs."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.dit import VideoTransformer
from models.sweep import Cell, SweepRecipe, cells, sweep
from palate.errors import DataError
from palate.provenance import walk
from palate.records import Figure, Run
from palate.store import Store
from palate.trained import recorded

SMALL = SweepRecipe(name="small", sizes=((16, 1), (16, 2)), clips=(64, 128), target=(32, 2, 256), held_out=50)


@pytest.mark.parametrize("size", [(16, 2), (48, 3), (64, 4)])
def test_sizes_are_the_networks(size):
    """N against the network's own matrices, C against torch's counter of one clip, forward and backward."""
    cell = Cell(*size, clips=1, channels=64)
    network = VideoTransformer(cell.shape)
    matrices = {name: p for name, p in network.named_parameters() if p.ndim == 2}
    met = ("blocks.", "embed.", "head.")
    assert cell.params == sum(p.numel() for name, p in matrices.items() if name.startswith(met))
    x = torch.zeros(1, cell.shape.tokens, 64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # which counts no fused attention
        network(x, torch.ones(1), torch.zeros(1, cell.shape.caption, dtype=torch.long)).sum().backward()
    assert cell.flops == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_a_grid_is_small_beside_its_target():
    runs = cells(SweepRecipe())
    target = runs[0]
    assert (target.width, target.depth, target.clips) == SweepRecipe().target
    assert all(4 * one.flops <= target.flops for one in runs[1:])
    assert len({(one.params, one.tokens) for one in runs}) == len(runs) == 16
    with pytest.raises(DataError, match="small enough"):
        cells(SweepRecipe(target=(16, 2, 1000)))
    with pytest.raises(DataError, match="less than a batch"):
        cells(SweepRecipe(clips=(4, 1000)))


def losses(store):
    return {(run.params, run.tokens): loss.value for run, loss in recorded(store, "small").values()}


@pytest.mark.slow  # four pools of processes that each import torch
def test_a_sweep_goes_on_where_it_was(tmp_path):
    """Two processes; half of the grid first, then all of it; and again, from the folder alone."""
    with Store(str(tmp_path / "one.db")) as store:
        sweep(SMALL.model_copy(update={"sizes": ((16, 1),)}), tmp_path / "one", store, 2)
        first = losses(store)
        assert len(first) == 3
        sweep(SMALL, tmp_path / "one", store, 2)
        whole = losses(store)
        assert len(whole) == 5
        assert whole.items() >= first.items()
        kept = store.count(Run)
        sweep(SMALL, tmp_path / "nothing is trained again", store, 1)
        assert store.count(Run) == kept
        figure = next(iter(store.select(Figure)))
        assert "the same 1 runs" in walk(store, figure.id).behind[0].title
        assert figure.estimate.low < figure.estimate.value < figure.estimate.high
        biggest = max(whole, key=lambda size: size[0] * size[1])
        assert whole[biggest] == min(whole.values())
    with Store(str(tmp_path / "two.db")) as store:
        sweep(SMALL, tmp_path / "one", store, 1)
        assert losses(store) == whole
