"""The loop on this machine: nothing but the commands of the README, in order, and a table at the end.

Every command can be stopped and run again, and so can the demo: what is done is found in the store and in the run
folders, and is not done again.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from palate.config import Settings
from palate.errors import PalateError
from palate.gsb import Contest, contests
from palate.records import Estimate, Judgement
from palate.report import figures, score_difference, score_figure
from palate.report_text import table
from palate.store import Store

SUITE, SCORER = "shapes", "shapes.strict"


class DemoRecipe(Settings):
    """How large the demo is. `seeds` samples of each of `prompts` training prompts meet in a knockout."""

    seed: int = 0
    cases: int = 384  # held-out cases that every system answers
    prompts: int = 160
    seeds: int = 8
    people: int = 12
    overlap: int = 3  # people who judge one comparison
    align_steps: int = 240
    align_batch: int = 16
    workers: int = 2


def demo(recipe: DemoRecipe, folder: Path) -> dict[str, object]:
    """Runs the loop in `folder`, writes `summary.json` there and returns it."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    store = str(folder / "palate.db")
    loop = Loop(recipe, folder, store)
    loop.ask("base", "heldout", recipe.cases)
    loop.ask("base", "train", recipe.prompts, recipe.seeds)
    loop.hear_people("taste")
    loop.align_and_control()
    for system in ("aligned", "control"):
        loop.ask(system, "heldout", recipe.cases, checkpoint=folder / system / "generator.safetensors")
        loop.examine(system)
    with Store(store) as record:
        summary = summarise(record, recipe)
        click.echo(f"\n{summary_text(summary)}")
    summary |= {"seconds": round(time.monotonic() - began, 1), "store": store}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary
