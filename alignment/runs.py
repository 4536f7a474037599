"""Runs in the record: as they begin, with the very command that goes on with them, and as they end, with what they
reported and drew."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from alignment.lookout import look_curves
from models.gallery import glimpses
from models.journal import JOURNAL, curves
from palate.config import Settings, dump
from palate.errors import PalateError
from palate.records import Curve, Glimpse, Run
from palate.store import Store
from palate.version import code_version

BEGUN = "begun: "  # before the task of a run that may have stopped
ALARMED = "stopped by the alarm: "  # before that of one whose weights nobody should take


def begun(
    task: str, recipe: Settings, weights: Path | None, folder: Path, checkpoint: str, source: Sequence[str] = ()
) -> Run:
    """A row that `palate runs resume` can go on from: the settings as TOML, where the run and its weights lie, the
    folder that files named in the settings are found from, and the arguments that say what it learns from."""
    place = {
        "out": str(folder.resolve()),
        "weights": str(weights.resolve()) if weights else "",
        "from": str(Path.cwd()),
    }
    told: dict[str, JsonValue] = {"recipe": dump(recipe), **place}
    if source:
        told["source"] = list(source)
    seed = int(getattr(recipe, "seed", 0))
    return Run(task=BEGUN + task, recipe=told, code=code_version(), seed=seed, parents=(checkpoint,))


def ended(
    task: str, recipe: Settings, parents: Sequence[str], outputs: Sequence[str], folder: Path, store: Store
) -> list[Run | Curve | Glimpse]:
    """A run with the curves and clips that lie in its folder. Clips are added to the store's media."""
    run = Run(
        task=task,
        recipe=recipe.model_dump(mode="json"),
        code=code_version(),
        seed=int(getattr(recipe, "seed", 0)),
        parents=tuple(parents),
        outputs=tuple(outputs),
    )
    looks = getattr(recipe, "looks", None)
    looked = look_curves(folder, run, looks.every) if looks else []
    return [run, *curves(folder / JOURNAL, run), *looked, *glimpses(folder, run, store.media)]


def command_of(run: Run) -> tuple[list[str], str]:
    """Arguments of `palate align` without a recipe, and the recipe as TOML."""
    kind = run.task.removeprefix(f"{BEGUN}align ")
    weights = ["--weights", str(run.recipe["weights"])] if run.recipe["weights"] else []
    told = run.recipe.get("source", [])
    source = [str(one) for one in told] if isinstance(told, list) else []
    return [kind, *source, "--out", str(run.recipe["out"]), *weights], str(run.recipe["recipe"])


@contextmanager
def telling_how_to_go_on(run: Run, store: str) -> Iterator[None]:
    """What the user can mend ends with the command that goes on after that."""
    try:
        yield
    except PalateError as error:
        again = f"{error.remedy}; then go on with `palate runs resume {run.id} --store {store}`"
        raise type(error)(error.problem, again) from error
