"""Training runs of a sweep in the record: what each was, and its held-out loss."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from palate.config import Settings
from palate.digest import digest
from palate.provenance import SWEEP
from palate.records import Estimate, Figure, Run, Scalar
from palate.store import Store

LOSS = "sweep.loss"


class Trained(Settings):
    """The recipe of a sweep's run: parameters N, tokens D and compute C as `stats.scaling` has them, and settings.

    `identity` is a hash of all that its loss depends on.
    """

    sweep: str
    identity: str
    params: int
    tokens: int
    flops: float
    settings: dict[str, JsonValue]

    def records(self, loss: Estimate, code: str, seed: int) -> tuple[Run, Figure]:
        """The run, and its loss as a figure of that run."""
        run = Run(task=SWEEP, recipe=self.model_dump(mode="json"), code=code, seed=seed)
        return run, run_figure(LOSS, loss, {"run": run.id}, [run.id])


def sweeps(store: Store) -> list[str]:
    """The names of the sweeps that have runs in the record."""
    return sorted({Trained.model_validate(run.recipe).sweep for run in store.select(Run, task=SWEEP)})


def recorded(store: Store, sweep: str) -> dict[str, tuple[Trained, Estimate]]:
    """The runs of a sweep, and their losses, by the run's id."""
    losses = {one.selection["run"]: one.estimate for one in store.select(Figure, name=LOSS)}
    runs = {run.id: Trained.model_validate(run.recipe) for run in store.select(Run, task=SWEEP)}
    return {id: (run, losses[id]) for id, run in runs.items() if run.sweep == sweep and id in losses}


def run_figure(name: str, estimate: Estimate, selection: Mapping[str, Scalar], runs: Sequence[str]) -> Figure:
    """A number that follows from the runs of these ids."""
    return Figure(
        name=name,
        estimate=estimate,
        selection=dict(selection),
        evidence="runs",
        rows=len(runs),
        digest=digest(runs),
        simulated=False,
    )
