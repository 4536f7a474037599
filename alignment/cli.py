"""`palate align`: from preferences to a better generator."""

from pathlib import Path

import click

from palate.cli import json_option, report, settings_options, store_option


@click.group()
def align() -> None:
    """Train a generator on what people prefer."""


@align.command()
@store_option
@json_option
@click.option("--study", required=True, help="whose preferences to learn from (see `palate annotate prefer`)")
@click.option("--policy", default=None, help="only the preferences of this policy")
@click.option(
    "--base", type=click.Path(path_type=Path), default=None, help="checkpoint to align; default: the shipped one"
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder of the run")
@settings_options
def dpo(
    store: str,
    as_json: bool,
    study: str,
    policy: str | None,
    base: Path | None,
    out: Path,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Flow-DPO on a study's preferences, with an anchor on the winners."""
    from alignment.train import DpoRecipe, align_dpo, evaluations
    from annotation.preferences import standing
    from models.weights import SHIPPED
    from palate.config import load
    from palate.records import Comparison, Judgement, Preference
    from palate.store import Store

    settings = load(DpoRecipe, recipe, overrides)
    wanted = {"study": study} | ({"policy": policy} if policy else {})
    with Store(store) as record:
        comparisons = list(record.select(Comparison, study=study))
        judgements = record.select(Judgement, comparison=[one.id for one in comparisons])
        chosen = standing(record.select(Preference, **wanted), comparisons, judgements)
        aligned = align_dpo(record, chosen, base or SHIPPED, settings, out)
    path = out / "generator.safetensors"
    facts = {
        "checkpoint": aligned.checkpoint,
        "path": str(path),
        "preferences": len(chosen),
        "evaluations": evaluations(settings),
    }
    report(as_json, f"{path} is aligned on {len(chosen)} preferences ({aligned.checkpoint[:12]})", facts)
