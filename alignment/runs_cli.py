"""`palate runs`: the pieces of work in the record, and what sets two of them apart."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from palate.cli import json_option, report, store_option

if TYPE_CHECKING:
    from palate.records import Run


@click.group()
def runs() -> None:
    """Pieces of work in the record, finished or begun."""


@runs.command("list")
@store_option
@json_option
@click.option("--task", default=None, help="only runs of this task, such as 'align grpo'")
def list_(store: str, as_json: bool, task: str | None) -> None:
    """Every run: what it was, its seed, what it started from, and what it made."""
    from palate.records import Run
    from palate.report_text import table
    from palate.store import Store

    with Store(store, create=False) as record:
        found = list(record.select(Run, **({"task": task} if task else {})))
    rows = [[one.id, one.task, str(one.seed), _short(one.parents), _short(one.outputs), one.code] for one in found]
    heads = ["run", "task", "seed", "from", "made", "code"]
    report(as_json, table(heads, rows), {"runs": [{"id": one.id, **one.model_dump(mode="json")} for one in found]})


@runs.command()
@store_option
@json_option
@click.argument("one")
@click.argument("other")
def compare(store: str, as_json: bool, one: str, other: str) -> None:
    """The settings in which two runs differ, and their checkpoints."""
    from palate.errors import RecordError
    from palate.records import Run
    from palate.report_text import table
    from palate.store import Store

    with Store(store, create=False) as record:
        found = [record.get(id) for id in (one, other)]
    told = [dict(_told(run)) for run in found if isinstance(run, Run)]
    if len(told) < 2:
        raise RecordError(f"{one} and {other} are not two runs", "give two ids of `palate runs list`")
    differ = {
        name: [side.get(name, "–") for side in told]
        for name in sorted({*told[0], *told[1]})
        if told[0].get(name) != told[1].get(name)
    }
    rows = [[name, *map(str, values)] for name, values in differ.items()]
    report(as_json, table(["setting", one, other], rows), {"differ": differ})


@runs.command()
@store_option
@json_option
@click.argument("id")
def resume(store: str, as_json: bool, id: str) -> None:
    """Go on with a run that stopped, from its last saved state, with the settings that it began with, in the folder
    that it was begun in (where that is still there)."""
    from contextlib import chdir
    from pathlib import Path
    from tempfile import NamedTemporaryFile

    from alignment.cli import align
    from alignment.runs import BEGUN, command_of
    from palate.errors import RecordError
    from palate.records import Run
    from palate.store import Store

    with Store(store, create=False) as record:
        found = record.get(id)
    if not isinstance(found, Run) or not found.task.startswith(BEGUN):
        raise RecordError(f"{id} is no run that has begun", "give the id of one: `palate runs list` shows them")
    arguments, told = command_of(found)
    begun_in = Path(str(found.recipe.get("from", ".")))
    store = store if "://" in store else str(Path(store).resolve())
    with NamedTemporaryFile("w", suffix=".toml") as recipe, chdir(begun_in if begun_in.is_dir() else "."):
        recipe.write(told)
        recipe.flush()
        more = ["--recipe", recipe.name, "--store", store, *(["--json"] if as_json else [])]
        align.main([*arguments, *more], standalone_mode=False)


def _told(run: "Run") -> Iterator[tuple[str, object]]:
    yield from _flat("recipe", run.recipe)
    yield from {"task": run.task, "code": run.code, "seed": run.seed}.items()
    yield from {"from": _short(run.parents), "made": _short(run.outputs)}.items()


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value


def _short(ids: tuple[str, ...]) -> str:
    return ", ".join(one[:20] for one in ids[:2]) + (f" and {len(ids) - 2} more" if len(ids) > 2 else "")
