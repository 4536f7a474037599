"""Runs that have begun: recorded with the very command that goes on with them, however they end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from palate.config import Settings, dump
from palate.errors import PalateError
from palate.records import Run
from palate.version import code_version

BEGUN = "begun: "  # before the task of a run that may have stopped


def begun(
    task: str, recipe: Settings, weights: Path | None, folder: Path, checkpoint: str, source: Sequence[str] = ()
) -> Run:
    """A row that `palate runs resume` can go on from: the settings as TOML, where the run and its weights lie, and the
    arguments that say what it learns from."""
    place = {"out": str(folder.resolve()), "weights": str(weights.resolve()) if weights else ""}
    told: dict[str, JsonValue] = {"recipe": dump(recipe), **place}
    if source:
        told["source"] = list(source)
    seed = int(getattr(recipe, "seed", 0))
    return Run(task=BEGUN + task, recipe=told, code=code_version(), seed=seed, parents=(checkpoint,))


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
